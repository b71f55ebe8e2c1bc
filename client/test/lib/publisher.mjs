// A WebSocket that publishes as fast as the server takes it. (Node.js has no WebSocket of its own before version 22.)
import { connect } from "node:net";

function frame(text) {
  const payload = Buffer.from(text);
  if (payload.length > 125) throw new RangeError("a short message was expected");
  return Buffer.concat([Buffer.from([0x81, 0x80 | payload.length, 0, 0, 0, 0]), payload]);
}

/** Publishes these messages, in batches with a pause between them. A location with `mode=pub` answers each of them. */
export async function publishAll(port, path, messages, { batch = 500, pause = 0, signal } = {}) {
  const socket = connect(port, "127.0.0.1");
  let answers = 0;
  let head = "";
  let isOpen = false;
  let rest = Buffer.alloc(0);
  const open = new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.once("close", () => reject(new Error(`the publisher was closed: ${head.slice(0, 100)}`)));
    socket.on("data", (data) => {
      if (!isOpen) {
        head += data.toString("latin1");
        const end = head.indexOf("\r\n\r\n");
        if (end < 0) return;
        if (!head.startsWith("HTTP/1.1 101")) return reject(new Error(head));
        isOpen = true;
        data = Buffer.from(head.slice(end + 4), "latin1");
        resolve();
      }
      rest = Buffer.concat([rest, data]);
      for (;;) {
        // Channel info is always short enough for one of these two.
        const length =
          rest.length < 2 ? undefined : rest[1] < 126 ? rest[1] + 2 : rest.length < 4 ? undefined : rest.readUInt16BE(2) + 4;
        if (length === undefined || rest.length < length) return;
        if ((rest[0] & 15) === 1) answers++;
        rest = rest.subarray(length);
      }
    });
  });
  socket.write(
    `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
  );
  await open;
  for (let i = 0; i < messages.length && !signal?.aborted; i += batch) {
    socket.write(Buffer.concat(messages.slice(i, i + batch).map(frame)));
    const sent = Math.min(i + batch, messages.length);
    while (answers < sent) {
      if (socket.destroyed) throw new Error(`the publisher was closed after ${answers} messages`);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    if (pause) await new Promise((resolve) => setTimeout(resolve, pause));
  }
  socket.destroy();
}
