// The client in Node.js, against the real module.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Channel } from "../../dist/ws-channel.js";
import { Nginx, sleep, until } from "../lib/nginx.mjs";
import { told } from "../lib/fakes.mjs";

const nginx = new Nginx(
  `
  location ~ ^/channel/(?<id>.+) {
    websocket_channel $id mode=pubsub;
    websocket_channel_start oldest;
  }
`,
);

before(() => nginx.start());
after(() => nginx.stop());

test("stream and long-poll, publishing and an iterator", { timeout: 60_000 }, async () => {
  for (const transport of ["stream", "longpoll"]) {
    const channel = new Channel(`${nginx.origin}/channel/${transport}`, { transports: [transport] });
    const published = channel.publish("1");
    const got = [];
    for await (const event of channel) {
      got.push([event.type, event.data, event.id]);
      channel.close();
    }
    assert.deepEqual(got, [["message", "1", (await published).id]]);
  }
});

test("what is refused", { timeout: 60_000 }, async () => {
  const channel = new Channel(`${nginx.origin}/nothing`, { backoff: { base: 1 }, transports: ["stream", "longpoll"] });
  const error = await new Promise((resolve) => channel.on("error", resolve));
  assert.equal(error.status, 404);
  assert.equal(error.transport, "stream");
  await assert.rejects(channel.publish("x"), { status: 404 });
  channel.close();
});

test("a thousand clients and a server that restarts", { timeout: 120_000, skip: !process.env.LONG && "LONG=1" }, async () => {
  const clients = Array.from({ length: 1000 }, () => new Channel(`${nginx.origin}/channel/storm`, { transports: ["stream"] }));
  const lines = clients.map(told);
  await until("all of them", () => clients.every(({ state }) => state === "open"), 60_000);
  await nginx.publish("/channel/storm", "1");
  await until("the message", () => lines.every(({ length }) => length === 1), 60_000);

  nginx.process.kill("SIGTERM");
  await until("nginx to end", () => nginx.exited !== undefined);
  await sleep(1500);
  const { accessLog } = nginx;
  await nginx.start();
  await until("all of them again", () => clients.every(({ state }) => state === "open"), 60_000);
  await sleep(1000);
  // A restart is the end of every channel: what may be gone is told. The message here is of another channel with the same name.
  await nginx.publish("/channel/storm", "2");
  await until("the next message", () => lines.every((mine) => mine.at(-1) === "2"), 60_000);
  assert.ok(lines.every((mine) => mine.length === 3 && mine[1].startsWith("gap")));
  for (const client of clients) client.close();

  // A stream is in the log when it ends, with how long it has lasted.
  await until("the log", () => nginx.accessLog.filter((line) => line.includes("GET /channel/storm")).length >= 2000);
  const began = nginx.accessLog
    .slice(accessLog.length)
    .filter((line) => line.includes("GET /channel/storm"))
    .map((line) => line.split(" "))
    .map(([end, , , , lasted]) => end - lasted);
  const bySecond = new Map();
  for (const time of began) bySecond.set(Math.floor(time), (bySecond.get(Math.floor(time)) ?? 0) + 1);
  assert.equal(began.length, 1000);
  const most = Math.max(...bySecond.values());
  assert.ok(most < 700, `${most} connections in one second`);
});
