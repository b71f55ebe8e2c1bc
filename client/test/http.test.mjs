// The transports that use fetch, publishing and presence, with answers of the test's own.
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { Channel } from "../dist/ws-channel.js";
import { Clock, told } from "./lib/fakes.mjs";

let clock, channel, requests;

beforeEach(() => {
  clock = new Clock();
  requests = [];
});

afterEach(() => {
  channel?.close();
  channel = undefined;
  clock.restore();
});

/** A channel whose requests are answered one after the other; what is left waits until it is aborted. */
async function make(transport, answers, options = {}, listen = () => undefined) {
  channel = new Channel("http://example.com/room", {
    transports: [transport],
    fetch: async (url, init) => {
      requests.push({ url: new URL(url), ...init });
      const answer = answers.shift();
      if (answer) return answer;
      return new Promise((_, reject) => init.signal.addEventListener("abort", () => reject(init.signal.reason)));
    },
    ...options,
  });
  const listened = listen(channel);
  await clock.settle();
  return listened;
}

/** An event stream that comes in these pieces and does not end. */
function events(...pieces) {
  const body = new ReadableStream({
    start(controller) {
      for (const piece of pieces) controller.enqueue(typeof piece === "string" ? new TextEncoder().encode(piece) : piece);
    },
  });
  return new Response(body, { headers: { "content-type": "text/event-stream; charset=utf-8" } });
}

const STREAM = [
  ": a comment",
  "id: 5:1",
  "data: a",
  "",
  "id: 5:2",
  "event: news",
  "data: b1",
  "data:  b2 ü",
  "data",
  "retry: 5",
  "",
  "id: 5:5",
  "event: gap",
  "data: 3",
  "",
  "id: 5:6",
  "",
  "",
];

for (const [name, end] of Object.entries({ LF: "\n", CR: "\r", "CR LF": "\r\n" })) {
  test(`an event stream whose lines end in ${name}, cut at every octet`, async () => {
    const octets = new TextEncoder().encode(STREAM.join(end));
    for (let at = 1; at < octets.length; at++) {
      const got = [];
      // After a CR at the end nobody knows yet whether a LF follows.
      await make("stream", [events(octets.subarray(0, at), octets.subarray(at), ": more\n")], {}, (channel) => {
        channel.on("message", (event) => got.push([event.name, event.data]));
        channel.on("gap", ({ lost, from, id }) => got.push([lost, from, id]));
      });
      await clock.settle();
      assert.deepEqual(
        got,
        [
          [undefined, "a"],
          ["news", "b1\n b2 ü\n"],
          [3, "5:2", "5:5"],
        ],
        `cut at ${at}`,
      );
      assert.equal(channel.position, "5:6");
      channel.close();
    }
  });
}

test("an event that is cut off is none; the stream goes on after the one before", async () => {
  const answers = [new Response("id: 5:1\ndata: a\n\nid: 5:2\ndata: b\n", { headers: { "content-type": "text/event-stream" } })];
  const lines = await make("stream", answers, {}, told);
  await clock.advance(2500);
  assert.deepEqual(lines, ["a"]);
  assert.equal(requests[1].url.searchParams.get("last_event_id"), "5:1");
  assert.equal(requests[1].headers.accept, "text/event-stream");
});

test("what is no event stream is no success", async () => {
  for (const answer of [new Response("<html>"), new Response("", { status: 401 })]) {
    await make("stream", [answer]);
    await clock.settle();
    assert.equal(channel.state, "waiting");
    channel.close();
  }
});

test("Retry-After in seconds, as a date, and as nonsense", async () => {
  for (const [value, expected] of [
    ["7", 7000],
    [new Date(Date.now() + 9000).toUTCString(), 9000],
    [new Date(0).toUTCString(), undefined],
    ["soon", undefined],
  ]) {
    const errors = [];
    await make("stream", [new Response("", { status: 503, headers: { "retry-after": value } })], {}, (channel) => {
      channel.on("error", (event) => errors.push(event));
    });
    await clock.settle();
    assert.equal(errors[0].status, 503);
    assert.equal(errors[0].retryAfter, expected, value);
    channel.close();
  }
});

test("long-poll: positions in tags, gaps, octets, and answers without a message", async () => {
  const answer = (body, headers, status = 200) => new Response(body, { status, headers });
  const answers = [
    answer("a", { etag: '"5:1"', "content-type": "text/plain" }),
    answer("b", { etag: 'W/"5:2-gzip"' }),
    answer(null, { etag: '"5:2"' }, 304),
    answer("", { etag: '"5:2"' }, 408),
    answer("c", { etag: '"5:6"', "x-channel-gap": "3" }),
    answer(new Uint8Array([1, 2]), { etag: '"5:7"', "content-type": "application/octet-stream" }),
    answer(new Uint8Array([255]), { etag: '"5:8"' }),
    answer("", { etag: '"5:9"' }),
  ];
  const lines = await make("longpoll", answers, {}, told);
  await clock.advance(8000);
  assert.deepEqual(lines, ["a", "b", "gap 3", "c", "1.2", "255", ""]);
  assert.deepEqual(
    requests.map(({ url }) => url.searchParams.get("last_event_id")),
    [null, "5:1", "5:2", "5:2", "5:2", "5:6", "5:7", "5:8", "5:9"],
  );
  assert.equal(channel.state, "open");
});

test("long-poll: an empty answer does not make it ask in a loop", async () => {
  const answers = Array.from({ length: 1000 }, () => new Response("", { status: 408 }));
  await make("longpoll", answers);
  await clock.advance(10_000);
  assert.ok(requests.length < 60, `${requests.length} requests in ten seconds`);
});

test("publishing: what is sent, what is answered, what is refused", async () => {
  const info = '{"messages": 3, "requested": -1, "subscribers": 2, "last_message_id": "5:7" }';
  await make("stream", [events(), new Response(info), new Response(null, { status: 204 }), new Response("no", { status: 403 })], {
    token: () => "secret",
    headers: { "x-app": "1" },
    credentials: true,
    publishUrl: "/pub",
  });
  assert.deepEqual(await channel.publish("a", { name: "news" }), { id: "5:7", subscribers: 2, messages: 3 });
  const { url, method, body, headers, credentials } = requests[1];
  assert.equal(url.href, "http://example.com/pub?access_token=secret");
  assert.deepEqual([method, body, credentials], ["POST", "a", "include"]);
  assert.deepEqual(headers, {
    "x-app": "1",
    accept: "application/json",
    "x-eventsource-event": "news",
  });
  assert.equal((await channel.publish(new Uint8Array(1))).id, undefined);
  assert.equal(requests[2].headers["content-type"], "application/octet-stream");
  await assert.rejects(channel.publish("{}", { contentType: "application/json" }), { status: 403, message: "403 no" });
  assert.equal(requests[3].headers["content-type"], "application/json");
});

test("presence", async () => {
  const present = { subscribers: 1, present: [{ id: "ann", connections: 1 }] };
  await make("stream", [events(), new Response(JSON.stringify(present))], { presenceUrl: "info?id=1" });
  assert.deepEqual(await channel.presence(), present);
  assert.equal(requests[1].url.href, "http://example.com/info?id=1&presence=");
});
