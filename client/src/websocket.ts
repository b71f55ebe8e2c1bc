import type { Data, Sink, Transport } from "./types.js";

/**
 * A subprotocol: called when the connection is open, it returns what reads the messages. One whose subscriptions are made by messages
 * sends them by the socket, for the channels and the position that are in its URL.
 */
type Subprotocol = (sink: Sink, socket: WebSocket) => (data: Data) => void;

/** Each message begins with lines about itself, and an empty line. */
const meta: Subprotocol = (sink) => (data) => {
  // A character for each octet, so that their places are the same. The lines are shorter than what nginx takes as a request's head.
  const text = typeof data === "string" ? data : new TextDecoder("latin1").decode(data.slice(0, 50_000));
  const end = text.indexOf("\n\n");
  const lines: Partial<Record<string, string>> = {};
  for (const line of text.slice(0, end).split("\n")) {
    const [name = "", value] = line.split(/: (.*)/);
    lines[name] = value;
  }
  const { id, gap, "content-type": contentType, channel } = lines;
  if (gap) sink.gap(Number(gap), id);
  else sink.message(data.slice(end + 2), id, { contentType, channel });
};

/** Without a subprotocol a message is what it is. */
const none: Subprotocol = (sink) => (data) => sink.message(data, undefined);

/** The best one first: the server selects the first one that it speaks. */
const SUBPROTOCOLS: Readonly<Record<string, Subprotocol>> = {
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
          sink.open();
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
