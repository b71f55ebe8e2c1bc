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
  write(data, done) {
    this.written += typeof data === "string" ? data : new TextDecoder().decode(data);
    done?.();
  }
  resize(cols, rows) {
    this.cols = cols;
    this.rows = rows;
    this.say("resize");
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
    socket.bufferedAmount = 0;
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

test("a paste waits for what waits in the browser, and what is typed after it for the paste", async () => {
  await make();
  const socket = net.last();
  socket.open();
  const send = socket.send;
  socket.send = (data) => {
    send(data);
    socket.bufferedAmount += data.length;
  };
  const text = "x".repeat(200_000);
  terminal.say("data", text);
  terminal.say("data", "\x03");
  assert.equal(socket.sent.length, 9, "the size, and as much as may wait");
  await clock.advance(1000);
  assert.equal(socket.sent.length, 9, "nothing has gone");
  for (let n = 0; n < 5; n++) {
    socket.bufferedAmount = 0;
    await clock.advance(50);
  }
  assert.equal(socket.sent.slice(1).join(""), `${text}\x03`);
  // What is left when the connection is lost is not for the next one.
  socket.bufferedAmount = 100_000;
  terminal.say("data", "lost");
  socket.end(1006);
  await clock.advance(2500);
  net.last().open();
  await clock.advance(2500);
  assert.equal(net.last().sent.length, 1);
});

test("a terminal of several clients has the size that they are told", async () => {
  await make();
  const socket = net.last();
  socket.open();
  socket.message("\x1b[8;20;60t");
  assert.deepEqual([terminal.cols, terminal.rows, terminal.written], [60, 20, ""]);
  assert.deepEqual(socket.sent, ["\x1b[8;24;80t"], "what is told is not asked for");
  // The page has more room: that is told, and stays as it is until there is an answer.
  terminal.resize(100, 30);
  assert.deepEqual([terminal.cols, terminal.rows], [60, 20]);
  assert.deepEqual(socket.sent.slice(1), ["\x1b[8;30;100t"]);
  socket.message("\x1b[8;30;60t");
  assert.deepEqual([terminal.cols, terminal.rows], [60, 30]);
  // The next connection asks for what the page has room for.
  socket.end(1006);
  await clock.advance(2500);
  net.last().open();
  assert.deepEqual(net.last().sent, ["\x1b[8;30;100t"]);
  terminal.resize(90, 30);
  assert.equal(terminal.cols, 90, "nobody has told this one a size");
  for (const text of ["\x1b[8;20;60tx", "\x1b[8;20t", "\x1b[8;;t", "\x1b[8;100000;60t"]) net.last().message(text);
  net.last().message(new TextEncoder().encode("\x1b[8;1;1t").buffer);
  assert.equal(terminal.cols, 90, "these are what a program writes");
});

test("who watches sends nothing", async () => {
  await make({ watch: true });
  net.last().open();
  assert.equal(terminal.options.disableStdin, true);
  terminal.say("data", "x");
  terminal.resize(100, 30);
  net.last().message("\x1b[8;20;60t");
  terminal.resize(100, 30);
  assert.deepEqual([net.last().sent, terminal.cols], [[], 60]);
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
