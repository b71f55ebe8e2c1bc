// The terminal's connection, with a network and a clock of the test's own.
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { attach } from "../terminal/dist/ws-terminal.js";
import { Clock, network } from "./lib/fakes.mjs";

let clock, net, terminal, attached;

/** As much of xterm.js as is used. */
class FakeTerminal {
  rows = 24;
  cols = 80;
  options = {};
  written = "";
  resets = 0;
  listeners = { data: [], binary: [], resize: [], title: [] };
  write(data) {
    this.written += typeof data === "string" ? data : new TextDecoder().decode(data);
  }
  reset() {
    this.resets++;
  }
  #on(type, listener) {
    this.listeners[type].push(listener);
    return { dispose: () => (this.listeners[type] = this.listeners[type].filter((other) => other !== listener)) };
  }
  onData = (listener) => this.#on("data", listener);
  onBinary = (listener) => this.#on("binary", listener);
  onResize = (listener) => this.#on("resize", listener);
  onTitleChange = (listener) => this.#on("title", listener);
  say(type, value) {
    for (const listener of this.listeners[type]) listener(value);
  }
}

beforeEach(() => {
  clock = new Clock();
  net = network();
  net.WebSocket.onconnect = (socket) => {
    socket.sent = [];
    socket.send = (data) => socket.sent.push(data);
    socket.protocols = [];
  };
  terminal = new FakeTerminal();
});

afterEach(() => {
  attached?.close();
  clock.restore();
});

async function make(options = {}) {
  const states = [];
  attached = attach(terminal, "https://example.com/shell", {
    WebSocket: net.WebSocket,
    onState: (state) => states.push(state),
    ...options,
  });
  await clock.settle();
  return states;
}

test("size, what is typed, what is written, the title", async () => {
  const titles = [];
  await make({ title: (title) => titles.push(title) });
  const socket = net.last();
  assert.equal(socket.url.href, "wss://example.com/shell");
  terminal.say("data", "too early");
  socket.open();
  terminal.say("data", "ls\r");
  terminal.say("binary", "\x1b[M\xff");
  terminal.rows = 10;
  terminal.say("resize");
  assert.deepEqual(socket.sent, ["\x1b[8;24;80t", "ls\r", Uint8Array.from([27, 91, 77, 255]), "\x1b[8;10;80t"]);
  socket.message(new TextEncoder().encode("out").buffer);
  socket.message("put");
  assert.equal(terminal.written, "output");
  terminal.say("title", "top");
  assert.deepEqual(titles, ["top"]);
});

test("a paste goes out in pieces that do not cut characters", async () => {
  await make();
  net.last().open();
  const text = `x${"\u{1F600}".repeat(20_000)}`;
  terminal.say("data", text);
  const [, ...pieces] = net.last().sent;
  assert.equal(pieces.join(""), text);
  assert.ok(pieces.length > 1);
  for (const piece of pieces) assert.ok(piece.length <= 8192 && piece.isWellFormed());
});

test("a lost connection is made again, with a screen that is reset; the end of the program is not", async () => {
  const states = await make();
  net.last().open();
  net.last().end(1006);
  assert.match(terminal.written, /connection lost/);
  await clock.advance(2500);
  assert.equal(net.sockets.length, 2);
  net.last().open();
  assert.equal(terminal.resets, 1);
  net.last().end(1011, "exit 3");
  assert.match(terminal.written, /\[closed: 1011 exit 3\]/);
  await clock.advance(100_000);
  assert.equal(net.sockets.length, 2);
  terminal.say("data", "\r");
  await clock.settle();
  assert.equal(net.sockets.length, 3);
  net.last().open();
  // The key that starts it is not for the program.
  assert.equal(net.last().sent.length, 1);
  assert.deepEqual(states, ["connecting", "open", "waiting", "connecting", "open", "ended", "connecting", "open"]);
});

test("read-only, and not to be connected again", async () => {
  await make({ readOnly: true, reconnect: false });
  assert.equal(terminal.options.disableStdin, true);
  net.last().open();
  terminal.say("data", "x");
  terminal.say("binary", "x");
  assert.equal(net.last().sent.length, 1);
  net.last().end(1006);
  assert.equal(attached.state, "ended");
  terminal.say("data", "x");
  await clock.advance(100_000);
  assert.equal(net.sockets.length, 1);
  attached.restart();
  await clock.settle();
  assert.equal(net.sockets.length, 2);
});

test("a token for each connection, and one that fails", async () => {
  let nth = 0;
  await make({
    token: async () => {
      if (++nth === 1) throw new Error("no token");
      return `t${nth}`;
    },
  });
  assert.equal(net.sockets.length, 0);
  await clock.advance(2500);
  assert.equal(net.last().url.searchParams.get("access_token"), "t2");
});

test("close() and an AbortSignal leave the terminal alone", async () => {
  const abort = new AbortController();
  await make({ signal: abort.signal });
  net.last().open();
  abort.abort();
  assert.equal(attached.state, "closed");
  assert.ok(net.last().isClosed);
  assert.deepEqual(Object.values(terminal.listeners).flat(), []);
  attached.restart();
  await clock.settle();
  assert.equal(net.sockets.length, 1);
});
