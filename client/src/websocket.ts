import type { Data, Sink, Transport } from "./types.js";

/** How the messages of a subprotocol are read. */
type Reader = (data: Data, sink: Sink) => void;

const META = "ws+meta.nchan";

/** Each message begins with lines about itself, and an empty line. */
function meta(data: Data, sink: Sink): void {
  let head: string;
  let rest: Data;
  if (typeof data === "string") {
    const end = data.indexOf("\n\n");
    head = data.slice(0, end);
    rest = data.slice(end + 2);
  } else {
    const octets = new Uint8Array(data);
    const end = octets.findIndex((octet, i) => octet === 10 && octets[i + 1] === 10);
    head = new TextDecoder().decode(octets.subarray(0, end));
    rest = data.slice(end + 2);
  }
  const lines: Partial<Record<string, string>> = {};
  for (const line of head.split("\n")) {
    const colon = line.indexOf(": ");
    lines[line.slice(0, colon)] = line.slice(colon + 2);
  }
  const { id, gap, "content-type": contentType, channel } = lines;
  if (gap) sink.gap(Number(gap), id);
  else sink.message(rest, id, { contentType, channel });
}

/**
 * By subprotocol, the best one first: the server selects the first one that it speaks. A subprotocol whose subscriptions are made by
 * messages takes its place here.
 */
const READERS: Readonly<Record<string, Reader>> = {
  [META]: meta,
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
        socket.onopen = sink.open;
        socket.onmessage = ({ data }: { data: Data }) => {
          const read = READERS[socket.protocol];
          if (read) read(data, sink);
          else sink.message(data, undefined);
        };
        // Try Again Later asks for more than the usual delay.
        socket.onclose = ({ code, reason }) => sink.end({ code, reason, retryAfter: code === 1013 ? 5000 : undefined });
        return () => socket.close();
      })
    );
  };
}

/** A WebSocket with positions. */
export const websocket = connect(Object.keys(READERS));

/** A WebSocket without a subprotocol: where it goes on after a lost connection is not known. */
export const plain = connect([]);
