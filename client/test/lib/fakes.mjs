// A network and a clock of the test's own.

/** Timers that run when the test says so: `advance(ms)`. Everything that waits in between gets to run. */
export class Clock {
  #now = 0;
  #timers = new Map();
  #next = 1;
  #real = { setTimeout, clearTimeout, setInterval, clearInterval, now: Date.now };

  constructor() {
    const at = (time, then, every) => {
      this.#timers.set(this.#next, { at: this.#now + Math.max(0, time || 0), then, every });
      return this.#next++;
    };
    globalThis.setTimeout = (then, time) => at(time, then);
    globalThis.setInterval = (then, time) => at(time, then, time);
    globalThis.clearTimeout = globalThis.clearInterval = (id) => void this.#timers.delete(id);
    Date.now = () => 1e12 + this.#now;
  }

  get now() {
    return this.#now;
  }

  /** Lets promises go on. */
  async settle() {
    for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
  }

  async advance(ms) {
    const end = this.#now + ms;
    await this.settle();
    for (;;) {
      let due;
      for (const [id, timer] of this.#timers) if (timer.at <= end && (!due || timer.at < due.timer.at)) due = { id, timer };
      if (!due) break;
      this.#now = Math.max(this.#now, due.timer.at);
      if (due.timer.every) due.timer.at = this.#now + due.timer.every;
      else this.#timers.delete(due.id);
      due.timer.then();
      await this.settle();
    }
    this.#now = end;
  }

  /** As if the machine had been asleep: time goes on, and nothing runs. */
  sleep(ms) {
    this.#now += ms;
    for (const timer of this.#timers.values()) timer.at += ms;
  }

  restore() {
    const { now, ...timers } = this.#real;
    Object.assign(globalThis, timers);
    Date.now = now;
  }
}

/** Servers for WebSockets: `sockets` are those that were made, newest last. */
export function network() {
  const sockets = [];
  class FakeWebSocket {
    readyState = 0;
    protocol = "";
    constructor(url, protocols) {
      this.url = new URL(url);
      this.protocols = protocols;
      sockets.push(this);
      FakeWebSocket.onconnect?.(this);
    }
    /** As a server that knows the last of the subprotocols, if nothing is said. */
    open(protocol = this.protocols.at(-1) ?? "") {
      this.readyState = 1;
      this.protocol = protocol;
      this.onopen?.({});
    }
    message(data) {
      if (this.readyState === 1) this.onmessage?.({ data });
    }
    /** A message of ws+meta.nchan. */
    meta(id, data, more = "") {
      this.message(`id: ${id}\n${more}\n${data}`);
    }
    /** What was sent. */
    sent = [];
    send(data) {
      this.sent.push(data);
    }
    /** A message of channels.v1. */
    say(object) {
      this.message(JSON.stringify(object));
    }
    end(code = 1006, reason = "") {
      if (this.readyState === 3) return;
      this.readyState = 3;
      this.onclose?.({ code, reason });
    }
    close() {
      this.isClosed = true;
      this.end(1005);
    }
  }
  return { sockets, WebSocket: FakeWebSocket, last: () => sockets.at(-1) };
}

/** An EventSource of the same kind. */
export function eventSources() {
  const sources = [];
  class FakeEventSource extends EventTarget {
    constructor(url) {
      super();
      this.url = new URL(url);
      sources.push(this);
    }
    open() {
      this.dispatchEvent(new Event("open"));
    }
    say(id, data, type = "message") {
      if (!this.isClosed) this.dispatchEvent(Object.assign(new Event(type), { data, lastEventId: id }));
    }
    fail() {
      if (!this.isClosed) this.dispatchEvent(new Event("error"));
    }
    close() {
      this.isClosed = true;
    }
  }
  return { sources, EventSource: FakeEventSource, last: () => sources.at(-1) };
}

/** What a channel has told, as short strings. */
export function told(channel) {
  const lines = [];
  channel.on("message", ({ data }) => lines.push(typeof data === "string" ? data : [...new Uint8Array(data)].join(".")));
  channel.on("gap", ({ lost }) => lines.push(`gap ${lost}`));
  return lines;
}
