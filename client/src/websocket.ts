import type { Data, Sink, Transport } from "./types.js";

/** A subprotocol: called when the connection is open, it returns what reads the messages. */
type Subprotocol = (sink: Sink, socket: WebSocket) => (data: Data) => void;

/** What a server says in channels.v1, as far as it is looked at. */
interface Said {
  op: string;
  id?: string;
  data?: string;
  /** There where data is not. */
  base64: string;
  type?: string;
  event?: string;
  channel?: string;
  lost: number;
  status?: number;
  reason?: string;
}

/** Each message is an object. The channels of the location are subscribed to, after the position that is in the URL. */
const v1: Subprotocol = (sink, socket) => {
  socket.send('{"op":"subscribe"}');
  return (text) => {
    const said = JSON.parse(text as string) as Said;
    const { id } = said;
    if (said.op === "message") {
      const data = said.data ?? Uint8Array.from(atob(said.base64), (octet) => octet.charCodeAt(0)).buffer;
      sink.message(data, id, { contentType: said.type, name: said.event, channel: said.channel });
    } else if (said.op === "gap") sink.gap(said.lost, id);
    // It is refused, or the channel is gone.
    else if (said.status) sink.end(said);
    else sink.placed(id);
  };
};

/** Each message begins with lines about itself, and an empty line. */
const meta: Subprotocol = (sink) => {
  sink.open();
  return (data) => {
    // A character for each octet, so that their places are the same. The lines are shorter than what nginx takes as a request's head.
    const text = typeof data === "string" ? data : new TextDecoder("latin1").decode(data.slice(0, 50_000));
    const end = text.indexOf("\n\n");
    const line = (name: string) => new RegExp(`^${name}: (.*)`, "m").exec(text.slice(0, end))?.[1];
    const gap = line("gap");
    if (gap) sink.gap(Number(gap), line("id"));
    else sink.message(data.slice(end + 2), line("id"), { contentType: line("content-type") });
  };
};

/** Without a subprotocol a message is what it is. */
const none: Subprotocol = (sink) => {
  sink.open();
  return (data) => sink.message(data, undefined);
};

/** The best one first: the server selects the first one that it speaks. */
const SUBPROTOCOLS: Readonly<Record<string, Subprotocol>> = {
  "channels.v1": v1,
  "ws+meta.nchan": meta,
};

function connect(names: string[]): Transport {
  return (options) => {
    const Socket = options.WebSocket ?? globalThis.WebSocket;
    return (
      Socket &&
      ((url, sink) => {
        url.protocol = url.protocol.replace("http", "ws");
        const socket = new Socket(url, names);
        socket.binaryType = "arraybuffer";
        socket.onopen = () => {
          const read = (SUBPROTOCOLS[socket.protocol] ?? none)(sink, socket);
          socket.onmessage = (event: { data: Data }) => read(event.data);
        };
        // Try Again Later asks for more than the usual delay.
        socket.onclose = ({ code, reason }) => sink.end({ code, reason, retryAfter: code === 1013 ? 5000 : undefined });
        return () => socket.close();
      })
    );
  };
}

/** A WebSocket with positions. */
export const websocket = connect(Object.keys(SUBPROTOCOLS));

/** A WebSocket without a subprotocol: where it goes on after a lost connection is not known. */
export const plain = connect([]);
