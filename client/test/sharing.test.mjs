// One connection for all tabs, with a network, a clock, locks and a BroadcastChannel of the test's own: what must not be lost when
// a tab dies at the worst moment.
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { Channel } from "../dist/ws-channel.js";
import { Clock, network, told } from "./lib/fakes.mjs";

const real = { BroadcastChannel: globalThis.BroadcastChannel, navigator: globalThis.navigator };
let clock, net, buses, queue, tabs;

/** Notes reach the others at once, unless a tab is `deaf`. */
class Bus {
  constructor() {
    buses.push(this);
  }
  postMessage(note) {
    const copy = structuredClone(note);
    for (const other of buses) if (other !== this && !other.isDeaf) other.onmessage?.({ data: copy });
  }
  close() {
    buses = buses.filter((other) => other !== this);
  }
}

const locks = {
  /** One lock is enough here. */
  request(name, { signal }, then) {
    return new Promise((resolve, reject) => {
      const entry = {
        start: () =>
          void Promise.resolve(then())
            .then(resolve)
            .then(() => leave()),
      };
      const leave = () => {
        const wasFirst = queue[0] === entry;
        queue = queue.filter((other) => other !== entry);
        if (wasFirst) queue[0]?.start();
      };
      signal.addEventListener("abort", () => {
        if (queue[0] === entry) return;
        leave();
        reject(signal.reason);
      });
      queue.push(entry);
      if (queue.length === 1) setImmediate(() => entry.start());
    });
  },
};

beforeEach(() => {
  clock = new Clock();
  net = network();
  buses = [];
  queue = [];
  tabs = [];
  globalThis.BroadcastChannel = Bus;
  Object.defineProperty(globalThis, "navigator", { value: { locks }, configurable: true });
});

afterEach(() => {
  for (const { channel } of tabs) channel.close();
  globalThis.BroadcastChannel = real.BroadcastChannel;
  Object.defineProperty(globalThis, "navigator", { value: real.navigator, configurable: true });
  clock.restore();
});

async function tab(options = {}) {
  const channel = new Channel("http://example.com/room", {
    WebSocket: net.WebSocket,
    transports: ["websocket"],
    share: true,
    ...options,
  });
  const mine = { channel, lines: told(channel) };
  tabs.push(mine);
  await clock.settle();
  mine.bus = buses.at(-1);
  return mine;
}

/** As if the tab had been killed: it says nothing any more, and its lock is free. */
async function kill({ channel, bus }) {
  bus.onmessage = null;
  bus.postMessage = () => undefined;
  channel.close();
  await clock.settle();
}

const open = () => net.sockets.filter(({ readyState }) => readyState < 2);

test("a second tab has no connection of its own, and gets what the first one gets", async () => {
  const first = await tab();
  net.last().open();
  const second = await tab();
  assert.equal(second.channel.state, "open");
  assert.equal(open().length, 1);
  net.last().meta("5:1", "a");
  net.last().message("id: 5:3\ngap: 2\n\n");
  net.last().meta("5:4", "b");
  for (const { lines, channel } of [first, second]) {
    assert.deepEqual(lines, ["a", "gap 2", "b"]);
    assert.equal(channel.position, "5:4");
  }
});

test("a tab that comes later gets the history by itself, and then follows", async () => {
  await tab();
  net.last().open();
  net.last().meta("5:1", "a");
  const second = await tab();
  assert.equal(second.channel.state, "connecting");
  assert.equal(open().length, 2);
  const [shared, own] = net.sockets;
  own.open();
  // This comes to the leader first, and must not come before the history.
  shared.meta("5:2", "b");
  own.meta("5:1", "a");
  own.meta("5:2", "b");
  assert.equal(open().length, 1);
  assert.equal(second.channel.state, "open");
  shared.meta("5:3", "c");
  assert.deepEqual(second.lines, ["a", "b", "c"]);
});

test("where there is no history it follows after a while", async () => {
  await tab();
  net.last().open();
  net.last().meta("5:1", "a");
  const second = await tab();
  net.last().open();
  await clock.advance(2500);
  assert.equal(open().length, 1);
  assert.equal(second.channel.state, "open");
  assert.equal(second.channel.position, "5:1");
  net.sockets[0].meta("5:2", "b");
  assert.deepEqual(second.lines, ["b"]);
});

test("the leader dies with a message that only it has: the next one goes on at its own position", async () => {
  const first = await tab();
  net.last().open();
  net.last().meta("5:1", "a");
  const second = await tab({ position: "5:1" });
  assert.equal(open().length, 1);
  second.bus.isDeaf = true;
  net.last().meta("5:2", "b");
  second.bus.isDeaf = false;
  await kill(first);
  assert.equal(net.last().url.searchParams.get("last_event_id"), "5:1");
  net.last().open();
  net.last().meta("5:2", "b");
  assert.deepEqual(second.lines, ["b"]);
  assert.deepEqual(first.lines, ["a", "b"]);
});

test("the leader dies with a message that only some have: who is behind catches up, who is ahead does not get it twice", async () => {
  const first = await tab();
  net.last().open();
  net.last().meta("5:1", "a");
  const ahead = await tab({ position: "5:1" });
  const behind = await tab({ position: "5:1" });
  behind.bus.isDeaf = true;
  net.last().meta("5:2", "b");
  behind.bus.isDeaf = false;
  await kill(first);
  // The one that is ahead leads now.
  const lead = net.sockets.find((socket) => socket.readyState === 0 && socket.url.search.includes("5%3A2"));
  const own = net.sockets.find((socket) => socket.readyState === 0 && socket.url.search.includes("5%3A1"));
  lead.open();
  lead.meta("5:3", "c");
  own.open();
  own.meta("5:2", "b");
  own.meta("5:3", "c");
  assert.equal(open().length, 1);
  lead.meta("5:4", "d");
  assert.deepEqual(ahead.lines, ["b", "c", "d"]);
  assert.deepEqual(behind.lines, ["b", "c", "d"]);
});

test("the leader dies before anything came: something may be lost, and that is told", async () => {
  const first = await tab();
  net.last().open();
  const second = await tab();
  await kill(first);
  net.last().open();
  assert.deepEqual(second.lines, ["gap 0"]);
});

test("positions that only the server can read: each tab has its own connection", async () => {
  const first = await tab();
  net.last().open();
  net.last().meta("zAbc", "a");
  const second = await tab();
  assert.equal(open().length, 2);
  net.last().open();
  net.last().meta("zAbc", "a");
  for (const socket of open()) socket.meta("zAbd", "b");
  assert.equal(open().length, 2);
  for (const { lines, channel } of [first, second]) {
    assert.deepEqual(lines, ["a", "b"]);
    assert.equal(channel.state, "open");
  }
});

test("a leader that does not answer is not waited for", async () => {
  const first = await tab();
  net.last().open();
  first.bus.isDeaf = true;
  const second = await tab();
  assert.equal(open().length, 1);
  await clock.advance(3100);
  assert.equal(open().length, 2);
  net.last().open();
  assert.equal(second.channel.state, "open");
  net.last().meta("5:1", "a");
  assert.deepEqual(second.lines, ["a"]);
});

test("states and errors are those of the one connection; a tab that is closed leaves the others alone", async () => {
  await tab();
  net.last().open();
  const second = await tab();
  const errors = [];
  second.channel.on("error", ({ code }) => errors.push(code));
  net.last().end(1006);
  assert.equal(second.channel.state, "waiting");
  assert.deepEqual(errors, [1006]);
  await clock.advance(2500);
  net.last().open();
  assert.equal(second.channel.state, "open");
  second.channel.close();
  await clock.settle();
  assert.equal(open().length, 1);
  assert.equal(tabs[0].channel.state, "open");
});
