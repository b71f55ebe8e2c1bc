// The subscription, with a network and a clock of the test's own.
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { Channel } from "../dist/small.js";
import { Clock, eventSources, network, told } from "./lib/fakes.mjs";

let clock, net, events, channel;

beforeEach(() => {
  clock = new Clock();
  net = network();
  events = eventSources();
});

afterEach(() => {
  channel?.close();
  channel = undefined;
  clock.restore();
});

/** A channel that has asked for its first connection. */
async function make(options = {}, url = "http://example.com/room") {
  channel = new Channel(url, {
    WebSocket: net.WebSocket,
    EventSource: events.EventSource,
    transports: ["websocket"],
    ...options,
  });
  await clock.settle();
  return channel;
}

/** Until the next attempt, whenever that is. */
async function retry() {
  const before = net.sockets.length;
  for (let i = 0; i < 100 && net.sockets.length === before; i++) await clock.advance(1000);
  assert.equal(net.sockets.length, before + 1);
  return net.last();
}

test("messages have data, id and content type", async () => {
  await make();
  const got = [];
  channel.on("message", (event) => got.push(event));
  const socket = net.last();
  assert.equal(socket.url.href, "ws://example.com/room");
  assert.deepEqual(socket.protocols, ["channels.v1", "ws+meta.nchan"]);
  socket.open();
  assert.equal(channel.state, "open");
  socket.message("id: 5:1\ncontent-type: application/json\n\n{}\n\nrest");
  socket.message(new TextEncoder().encode("id: 5:2\n\n\n\nok").buffer);
  assert.equal(got[0].data, "{}\n\nrest");
  assert.equal(got[0].contentType, "application/json");
  assert.equal(got[0].id, "5:1");
  assert.equal(new TextDecoder().decode(got[1].data), "\n\nok");
  assert.equal(channel.position, "5:2");
});

test("channels.v1, where the server speaks it", async () => {
  await make();
  const got = [];
  for (const type of ["message", "gap"]) channel.on(type, (event) => got.push(event));
  const socket = net.last();
  socket.open("channels.v1");
  assert.deepEqual(socket.sent, ['{"op":"subscribe"}']);
  assert.equal(channel.state, "connecting", "the server has not agreed yet");
  socket.say({ op: "subscribed", id: "5:7" });
  assert.equal(channel.state, "open");
  assert.equal(channel.position, "5:7", "the position before the first message");
  socket.say({ op: "message", id: "5:8", data: "a", type: "text/plain", event: "news", more: 1 });
  socket.say({ op: "message", id: "5:9", base64: "AP8=" });
  socket.say({ op: "message", id: "5:9", data: "twice" });
  socket.say({ op: "gap", id: "5:12", lost: 3 });
  socket.say({ op: "message", id: "5:13", data: "" });
  assert.deepEqual([got[0].data, got[0].id, got[0].contentType, got[0].name], ["a", "5:8", "text/plain", "news"]);
  assert.deepEqual([...new Uint8Array(got[1].data)], [0, 255]);
  assert.deepEqual([got[2].type, got[2].lost, got[2].from, got[2].id], ["gap", 3, "5:9", "5:12"]);
  assert.deepEqual([got[3].data, got.length], ["", 4]);
  socket.end();
  assert.equal((await retry()).url.searchParams.get("last_event_id"), "5:13");
});

test("channels.v1: what is refused, and a channel that is deleted", async () => {
  await make();
  const errors = [];
  channel.on("error", (event) => errors.push(event));
  const first = net.last();
  first.open("channels.v1");
  first.say({ op: "error", status: 403, reason: "subscribing is not allowed" });
  assert.deepEqual([errors[0].status, errors[0].reason, errors.length], [403, "subscribing is not allowed", 1]);
  assert.ok(first.isClosed);
  assert.equal(channel.state, "waiting");
  const second = await retry();
  second.open("channels.v1");
  second.say({ op: "subscribed", id: "5:0" });
  second.say({ op: "unsubscribed", status: 410, reason: "the channel was deleted" });
  assert.equal(errors[1].status, 410);
  assert.ok(second.isClosed);
});

test("a lost connection goes on after the last message", async () => {
  await make();
  const lines = told(channel);
  net.last().open();
  net.last().meta("5:1", "a");
  net.last().end();
  assert.equal(channel.state, "waiting");
  const socket = await retry();
  assert.equal(socket.url.searchParams.get("last_event_id"), "5:1");
  socket.open();
  socket.meta("5:2", "b");
  assert.deepEqual(lines, ["a", "b"]);
});

test("what comes twice is delivered once", async () => {
  await make();
  const lines = told(channel);
  net.last().open();
  for (const [id, data] of [
    ["5:1", "a"],
    ["5:2", "b"],
    ["5:1", "a"],
    ["5:2", "b"],
    ["5:3", "c"],
  ])
    net.last().meta(id, data);
  assert.deepEqual(lines, ["a", "b", "c"]);
});

test("a gap that is told is told once, with where it was", async () => {
  await make();
  const lines = told(channel);
  const gaps = [];
  channel.on("gap", (event) => gaps.push(event));
  net.last().open();
  net.last().meta("5:1", "a");
  net.last().message("id: 5:4\ngap: 3\n\n");
  net.last().meta("5:5", "b");
  assert.deepEqual(lines, ["a", "gap 3", "b"]);
  assert.equal(gaps[0].from, "5:1");
  assert.equal(gaps[0].id, "5:4");
});

test("a gap that nobody has told is found", async () => {
  await make({ transports: ["eventsource"] });
  const lines = told(channel);
  events.last().open();
  events.last().say("5:1", "a");
  // Published with a name that nobody listens to.
  events.last().say("5:2", "b", "other");
  events.last().say("5:3", "c");
  assert.deepEqual(lines, ["a", "gap 1", "c"]);
});

test("several channels: each has its own offsets, in any order", async () => {
  await make();
  const lines = told(channel);
  net.last().open();
  for (const [id, data] of [
    ["5:1,9:7", "a"],
    ["5:2,9:7", "b"],
    ["9:8,5:2", "c"],
    ["9:8,5:2", "again"],
    ["9:8,5:4", "d"],
  ])
    net.last().meta(id, data);
  assert.deepEqual(lines, ["a", "b", "c", "gap 1", "d"]);
  assert.equal(channel.position, "9:8,5:4");
});

test("many channels: the position is sent back as it came", async () => {
  await make();
  const lines = told(channel);
  net.last().open();
  net.last().meta("zAbc_-", "a");
  net.last().meta("zAbd_-", "b");
  net.last().end();
  const socket = await retry();
  assert.equal(socket.url.searchParams.get("last_event_id"), "zAbd_-");
  assert.deepEqual(lines, ["a", "b"]);
});

test("a connection that was lost before its position was known may have lost something", async () => {
  await make();
  const lines = told(channel);
  net.last().open();
  net.last().end();
  (await retry()).open();
  assert.deepEqual(lines, ["gap 0"]);
});

test("plain: no position, and a gap of unknown size after a reconnect", async () => {
  await make({ transports: ["plain"], position: "5:1" });
  const lines = told(channel);
  assert.deepEqual(net.last().protocols, []);
  net.last().open("");
  net.last().message("a");
  net.last().message(new Uint8Array([1, 2]).buffer);
  net.last().end();
  const socket = await retry();
  assert.equal(socket.url.searchParams.get("last_event_id"), null);
  socket.open("");
  assert.deepEqual(lines, ["a", "1.2", "gap 0"]);
});

test("events with names, also those that an EventSource uses itself", async () => {
  await make({ transports: ["eventsource"], events: ["success"] });
  const got = [];
  channel.on("message", ({ data, name }) => got.push([name, data]));
  events.last().open();
  events.last().say("5:1", "a", "success");
  events.last().say("5:2", "b", "error");
  events.last().say("5:3", "c", "open");
  events.last().say("5:4", "d");
  assert.deepEqual(got, [
    ["success", "a"],
    ["error", "b"],
    ["open", "c"],
    [undefined, "d"],
  ]);
  assert.equal(channel.state, "open");
});

test("the first round falls back at once, and climbs again with the position", async () => {
  await make({ transports: ["websocket", "eventsource"], climb: 1000 });
  const lines = told(channel);
  net.last().end();
  await clock.settle();
  assert.equal(events.sources.length, 1);
  events.last().open();
  events.last().say("5:1", "a");
  assert.equal(channel.transport, "eventsource");

  await clock.advance(1500);
  assert.equal(net.sockets.length, 2);
  net.last().end();
  assert.equal(channel.state, "open");
  await clock.advance(3000);
  assert.equal(net.sockets.length, 3);
  assert.equal(net.last().url.searchParams.get("last_event_id"), "5:1");
  net.last().open();
  assert.equal(channel.transport, "websocket");
  assert.ok(events.last().isClosed);
  net.last().meta("5:2", "b");
  assert.deepEqual(lines, ["a", "b"]);
});

test("what came while a better transport was tried does not come twice", async () => {
  await make({ transports: ["websocket", "eventsource"], climb: 1000 });
  const lines = told(channel);
  net.last().end();
  await clock.settle();
  events.last().open();
  events.last().say("5:1", "a");
  await clock.advance(1500);
  const candidate = net.last();
  assert.equal(candidate.readyState, 0);
  events.last().say("5:2", "b");
  candidate.open();
  assert.ok(candidate.isClosed);
  candidate.meta("5:2", "b");
  await clock.settle();
  assert.equal(net.last().url.searchParams.get("last_event_id"), "5:2");
  net.last().open();
  net.last().meta("5:3", "c");
  assert.deepEqual(lines, ["a", "b", "c"]);
});

test("a transport that has worked is not given up at the first failure", async () => {
  await make({ transports: ["websocket", "eventsource"] });
  net.last().open();
  net.last().meta("5:1", "a");
  net.last().end();
  for (let i = 0; i < 3; i++) {
    assert.equal(channel.transport, "websocket");
    (await retry()).end();
  }
  assert.equal(channel.transport, "eventsource");
  assert.equal(channel.state, "waiting");
});

test("a connection that is not made in time is given up", async () => {
  await make({ transports: ["websocket", "eventsource"], timeout: 3000 });
  const failures = [];
  channel.on("error", ({ reason }) => failures.push(reason));
  await clock.advance(3001);
  assert.ok(net.last().isClosed);
  assert.equal(events.sources.length, 1);
  assert.deepEqual(failures, ["timeout"]);
});

test("a connection on which nothing comes is given up, if that is asked for", async () => {
  await make({ idle: 5000 });
  net.last().open();
  await clock.advance(4000);
  net.last().meta("5:1", "a");
  await clock.advance(4000);
  assert.equal(channel.state, "open");
  await clock.advance(1001);
  assert.equal(channel.state, "waiting");
});

test("delays are random, double up to a limit, and begin anew after a connection that lasted", async () => {
  await make({ backoff: { base: 100, max: 1000 } });
  const delays = [];
  channel.on("state", ({ state, delay }) => state === "waiting" && delays.push(delay));
  const random = Math.random;
  Math.random = () => 0.999;
  try {
    for (let i = 0; i < 6; i++) {
      net.last().end();
      await clock.advance(1000);
    }
    assert.deepEqual(delays.map(Math.round), [200, 400, 799, 999, 999, 999]);
    net.last().open();
    await clock.advance(500);
    net.last().end();
    assert.equal(Math.round(delays.at(-1)), 200);
  } finally {
    Math.random = random;
  }
});

test("1013 asks for more time, and 1012 is no failure", async () => {
  await make({ transports: ["websocket", "eventsource"] });
  const delays = [];
  channel.on("state", ({ state, delay }) => state === "waiting" && delays.push(delay));
  net.last().open();
  net.last().end(1013);
  assert.ok(delays[0] >= 5000);
  for (let i = 0; i < 5; i++) {
    const socket = await retry();
    socket.open();
    socket.end(1012);
  }
  assert.equal(channel.transport, "websocket");
});

test("after `online` it is back at once, but not before the server wants it", async () => {
  const listeners = new Map();
  globalThis.addEventListener = (type, then) => listeners.set(type, then);
  try {
    await make();
    net.last().open();
    net.last().meta("5:1", "a");
    net.last().end();
    listeners.get("online")();
    await clock.settle();
    assert.equal(net.sockets.length, 2);
    // The network has changed: what is open is taken for dead.
    net.last().open();
    listeners.get("online")();
    await clock.settle();
    assert.equal(net.sockets.length, 3);
    assert.ok(net.sockets[1].isClosed);
    net.last().open();
    net.last().end(1013);
    listeners.get("online")();
    await clock.settle();
    assert.equal(net.sockets.length, 3);
  } finally {
    delete globalThis.addEventListener;
  }
});

test("a page that is seen again is back at once", async () => {
  const document = Object.assign(new EventTarget(), { hidden: true, baseURI: "https://example.com/app/" });
  globalThis.document = document;
  try {
    await make({}, "../room");
    assert.equal(net.last().url.href, "wss://example.com/room");
    net.last().open();
    document.hidden = false;
    document.dispatchEvent(new Event("visibilitychange"));
    await clock.settle();
    assert.equal(net.sockets.length, 1);
    net.last().end();
    document.dispatchEvent(new Event("visibilitychange"));
    await clock.settle();
    assert.equal(net.sockets.length, 2);
  } finally {
    delete globalThis.document;
  }
});

test("after the machine was asleep the connection is made anew, with the position", async () => {
  await make();
  net.last().open();
  net.last().meta("5:1", "a");
  clock.sleep(3_600_000);
  await clock.advance(10_001);
  assert.equal(net.sockets.length, 2);
  assert.ok(net.sockets[0].isClosed);
  assert.equal(net.last().url.searchParams.get("last_event_id"), "5:1");
});

test("the token is made anew for each connection; one that fails is one more attempt", async () => {
  let nth = 0;
  await make({
    token: async () => {
      if (++nth === 2) throw new Error("no token");
      return `t${nth}`;
    },
  });
  const failures = [];
  channel.on("error", ({ cause }) => failures.push(cause?.message));
  assert.equal(net.last().url.searchParams.get("access_token"), "t1");
  net.last().end();
  await retry();
  assert.equal(net.last().url.searchParams.get("access_token"), "t3");
  assert.deepEqual(failures, [undefined, "no token"]);
});

test("close() and an AbortSignal end it for good", async () => {
  const abort = new AbortController();
  await make({ signal: abort.signal });
  const lines = told(channel);
  net.last().open();
  abort.abort();
  assert.equal(channel.state, "closed");
  assert.ok(net.last().isClosed);
  net.last().readyState = 1;
  net.last().meta("5:1", "a");
  await clock.advance(100_000);
  assert.equal(net.sockets.length, 1);
  assert.deepEqual(lines, []);
  await make({ signal: AbortSignal.abort() });
  assert.equal(channel.state, "closed");
  assert.equal(net.sockets.length, 1);
});

test("a listener that closes ends it, wherever it is", async () => {
  for (const type of ["message", "gap", "state", "error"]) {
    await make();
    const { length } = net.sockets;
    channel.on(type, () => channel.close());
    const socket = net.last();
    socket.open();
    socket.meta("5:1", "a");
    socket.meta("5:3", "b");
    socket.end();
    await clock.advance(100_000);
    assert.equal(channel.state, "closed", type);
    assert.equal(net.sockets.length, length, type);
  }
});

test("an iterator gets messages and gaps in order, and ends with the channel", async () => {
  await make();
  const got = [];
  const done = (async () => {
    for await (const event of channel) got.push(event.type === "gap" ? `gap ${event.lost}` : event.data);
  })();
  await clock.settle();
  net.last().open();
  net.last().meta("5:1", "a");
  net.last().meta("5:4", "b");
  channel.close();
  await done;
  assert.deepEqual(got, ["a", "gap 2", "b"]);
});

test("the position outlives the page, if that is asked for", async () => {
  const kept = new Map();
  globalThis.sessionStorage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) };
  try {
    await make({ persist: true });
    net.last().open();
    net.last().meta("5:1", "a");
    channel.close();
    await make({ persist: true });
    assert.equal(net.last().url.searchParams.get("last_event_id"), "5:1");
    channel.close();
    await make({ persist: "mine" });
    assert.equal(net.last().url.searchParams.get("last_event_id"), null);
    globalThis.sessionStorage.setItem = () => {
      throw new Error("full");
    };
    const lines = told(channel);
    net.last().open();
    net.last().meta("5:2", "b");
    assert.deepEqual(lines, ["b"]);
  } finally {
    delete globalThis.sessionStorage;
  }
});

test("what cannot be is refused when it is made", () => {
  assert.throws(() => new Channel("http://example.com/", { transports: ["carrier pigeon"] }), /no transport carrier pigeon/);
  assert.throws(() => new Channel("http://example.com/", { transports: ["eventsource"] }), /no transport/);
  assert.throws(() => new Channel("/relative", { WebSocket: net.WebSocket }), /URL/);
});

test("a thousand clients of a server that restarts do not come all at once", async () => {
  let isUp = true;
  const connections = new Map();
  net.WebSocket.onconnect = (socket) => {
    const second = Math.floor(clock.now / 1000);
    connections.set(second, (connections.get(second) ?? 0) + 1);
    setTimeout(() => (isUp ? socket.open() : socket.end()), 5);
  };
  const clients = Array.from({ length: 1000 }, () => {
    return new Channel("http://example.com/", { WebSocket: net.WebSocket, transports: ["websocket"] });
  });
  await clock.advance(10_000);
  assert.ok(clients.every(({ state }) => state === "open"));
  connections.clear();
  isUp = false;
  for (const socket of net.sockets) socket.end();
  await clock.advance(5000);
  isUp = true;
  await clock.advance(60_000);
  assert.ok(clients.every(({ state }) => state === "open"));
  const most = Math.max(...connections.values());
  const all = [...connections.values()].reduce((sum, one) => sum + one, 0);
  // Half of them in each of the first two seconds, and in the second one those that were refused as well; less later.
  assert.ok(most < 800, `${most} connections in one second`);
  assert.ok(all < 4000, `${all} connections`);
  for (const client of clients) client.close();
});
