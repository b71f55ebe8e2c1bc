// What is between a browser and a server: it cuts connections in the middle of whatever passes, or does not let WebSockets through.
import { connect, createServer } from "node:net";

export class Proxy {
  /** Octets to the client after which a connection is cut: a function that is asked for each of them. */
  cutAfter = () => Infinity;
  /** `pass`, `refuse` (an answer that is none to an Upgrade), `ignore` (no answer at all). */
  upgrades = "pass";
  connections = 0;
  cuts = 0;
  #pairs = new Set();

  async start(target) {
    this.server = createServer((client) => this.#accept(client, target));
    await new Promise((resolve) => this.server.listen(0, "127.0.0.1", resolve));
    this.port = this.server.address().port;
    return this;
  }

  #accept(client, target) {
    this.connections++;
    let left = this.cutAfter();
    const server = connect(target(), "127.0.0.1");
    const pair = { client, server };
    this.#pairs.add(pair);
    const end = () => {
      this.#pairs.delete(pair);
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) socket.on("error", end).on("close", end);
    client.on("data", (data) => {
      if (this.upgrades !== "pass" && /^upgrade: *websocket/im.test(data.toString("latin1"))) {
        if (this.upgrades === "refuse") client.end("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
      }
      if (!server.write(data)) {
        client.pause();
        server.once("drain", () => client.resume());
      }
    });
    server.on("data", (data) => {
      if (data.length >= left) {
        this.cuts++;
        client.write(data.subarray(0, left), () => client.resetAndDestroy());
        server.destroy();
        return;
      }
      left -= data.length;
      if (!client.write(data)) {
        server.pause();
        client.once("drain", () => server.resume());
      }
    });
  }

  /** Cuts what there is. */
  cut() {
    for (const { client, server } of this.#pairs) {
      client.resetAndDestroy();
      server.destroy();
    }
  }

  stop() {
    this.cut();
    this.server.close();
  }
}
