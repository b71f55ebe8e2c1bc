// The client in a browser, against the real module: BROWSER is chromium, firefox or webkit; with LONG=1 it takes its time.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch } from "../lib/browsers.mjs";
import { Nginx, sleep, until } from "../lib/nginx.mjs";
import { Proxy } from "../lib/proxy.mjs";
import { publishAll } from "../lib/publisher.mjs";

const KIND = process.env.BROWSER || "chromium";
const LONG = !!process.env.LONG;
const DEADLINE = LONG ? 240_000 : 60_000;
const QUICK = { backoff: { base: 10, max: 200 } };

const nginx = new Nginx(
  `
  location ~ ^/channel/(?<id>.+) {
    websocket_channel $id mode=pubsub;
    websocket_channel_history length=200000 time=1h;
    websocket_channel_start oldest;
    websocket_channel_transports websocket eventsource longpoll;
    websocket_channel_presence $arg_who;
    websocket_drain 300ms;
  }
  location ~ ^/fresh/(?<id>.+) { websocket_channel $id; websocket_drain 300ms; }
  location ~ ^/pub/(?<id>.+) {
    websocket_channel $id mode=pub;
    websocket_channel_history length=200000 time=1h;
  }
  location ~ ^/short/(?<id>.+) {
    websocket_channel $id mode=pub;
    websocket_channel_history length=30 time=1h;
  }
  location ~ ^/many/(?<id>.+) {
    websocket_channel $id;
    websocket_channel_split ,;
    websocket_channel_start oldest;
  }
  location ~ ^/guarded/(?<id>.+) {
    if ($arg_access_token != "right") { return 401; }
    websocket_channel $id mode=pubsub;
    websocket_channel_start oldest;
  }
  location ~ ^/busy/(?<id>.+) {
    if (-e $document_root/../target/never) { return 204; }
    error_page 503 @busy;
    return 503;
  }
  location @busy { add_header Retry-After 7 always; return 503; }
  location = /echo { websocket_exec /bin/cat; }
`,
  { http: "websocket_channel_zone 128m;", expected: [/exited on signal 9/, /was locked by/] },
);
let browser, proxy;
let nth = 0;

before(async () => {
  await nginx.start();
  proxy = await new Proxy().start(() => nginx.port);
  browser = await launch(KIND);
  if (typeof browser === "string") {
    console.log(`NOT RUN: ${browser}`);
    browser = undefined;
  } else console.log(`with ${browser.name}`);
});

after(async () => {
  await browser?.close();
  proxy?.stop();
  await nginx.stop();
});

/** Pages that a test has left, by origin. A browser takes a second to open one. */
const idle = new Map();

/** A page that has the client, from nginx itself or through the proxy. */
async function open(origin = nginx.origin) {
  const tab = idle.get(origin)?.pop() ?? (await browser.tab(`${origin}/test/page.html`));
  await until("the page", () => tab.evaluate("window.isReady === true"));
  return {
    ...tab,
    origin,
    async close() {
      this.isClosed = true;
      await tab.close();
    },
    async leave() {
      if (this.isClosed) return;
      // What is left open would count in the next test.
      await tab.evaluate("window.channel?.close()");
      idle.set(origin, [...(idle.get(origin) ?? []), tab]);
    },
  };
}

const begin = (tab, url, options = {}) => tab.evaluate(`open_(${JSON.stringify(url)}, ${JSON.stringify(options)})`);
const state = (tab) => tab.evaluate("channel.state");
const count = (tab) => tab.evaluate("told.messages.length");

/** A test that needs the browser; `isLong`: one for which the quick run has no time. */
function check(name, run, isLong = false) {
  if (isLong && !LONG) return;
  test(name, { timeout: DEADLINE + 30_000 }, async (context) => {
    if (!browser) return context.skip("no browser");
    proxy.cutAfter = () => Infinity;
    proxy.upgrades = "pass";
    const tabs = [];
    const id = `c${++nth}`;
    try {
      await run(id, async (origin) => {
        tabs.push(await open(origin));
        return tabs.at(-1);
      });
    } catch (error) {
      for (const tab of tabs) {
        const told = await tab.evaluate("JSON.stringify({ ...told, messages: told.messages.length })").catch(String);
        context.diagnostic(told.slice(0, 2000));
      }
      throw error;
    } finally {
      for (const tab of tabs) await tab.leave().catch(() => undefined);
    }
  });
}

/**
 * That a tab has got 1 to `last` in order, each once, but for gaps, each of which was told with its exact size. Returns how many
 * are lost.
 */
async function assertWhole(tab, last) {
  await until(`message ${last}`, async () => (await tab.evaluate("told.messages.at(-1)")) === String(last), DEADLINE);
  const { messages, gaps } = JSON.parse(await tab.evaluate("JSON.stringify(told)"));
  let expected = 1;
  let lost = 0;
  for (let i = 0; i <= messages.length; i++) {
    for (const [at, many] of gaps) {
      if (at !== i) continue;
      expected += many;
      lost += many;
    }
    if (i < messages.length) assert.equal(messages[i], String(expected++), `after ${i} messages`);
  }
  assert.equal(expected - 1, last);
  return lost;
}

const numbers = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => String(from + i));

for (const transport of ["websocket", "eventsource", "stream", "longpoll", "plain"]) {
  check(`${transport}: history, what comes, types`, async (id, tab) => {
    await nginx.publish(`/channel/${id}`, "1");
    const page = await tab();
    await begin(page, `/channel/${id}`, { transports: [transport] });
    await until("the history", async () => (await count(page)) === 1);
    assert.equal(await state(page), "open");
    await nginx.publish(`/channel/${id}`, "two\nlines ü", { "Content-Type": "text/markdown; charset=utf-8" });
    await until("what comes", async () => (await count(page)) === 2);
    assert.equal(await page.evaluate("told.messages[1]"), "two\nlines ü");
    if (transport === "websocket" || transport === "longpoll") {
      assert.equal(await page.evaluate("told.last.contentType"), "text/markdown; charset=utf-8");
      assert.match(await page.evaluate("channel.position"), /^\d+:2$/);
      await nginx.publish(`/channel/${id}`, new Uint8Array([0, 255, 10, 10]), { "Content-Type": "application/octet-stream" });
      await until("octets", async () => (await count(page)) === 3);
      assert.equal(await page.evaluate("[...new Uint8Array(told.messages[2])].join()"), "0,255,10,10");
    }
    await nginx.publish(`/channel/${id}`, "");
    await until("an empty message", async () => (await page.evaluate("told.messages.at(-1)")) === "");
    assert.deepEqual(JSON.parse(await page.evaluate("JSON.stringify(told.gaps)")), []);
  });
}

const MANY = {
  websocket: LONG ? 100_000 : 10_000,
  stream: LONG ? 100_000 : 5000,
  eventsource: LONG ? 30_000 : 3000,
  longpoll: LONG ? 2000 : 60,
};
for (const [transport, many] of Object.entries(MANY)) {
  check(`${transport}: ${many} messages, cut at random octets: none is lost, none comes twice`, async (id, tab) => {
    const page = await tab(`http://127.0.0.1:${proxy.port}`);
    const most = transport === "longpoll" ? 3000 : (many * 75) / (LONG ? 60 : 15);
    proxy.cutAfter = () => 100 + Math.floor(Math.random() * most);
    const before = proxy.cuts;
    // A connection that has brought the page, and is kept, would not be cut.
    proxy.cut();
    await begin(page, `/channel/${id}`, { transports: [transport], ...QUICK });
    await publishAll(nginx.port, `/pub/${id}`, numbers(1, many), { batch: 200, pause: LONG ? 5 : 10 });
    assert.equal(await assertWhole(page, many), 0);
    assert.ok(proxy.cuts - before > 2, `${proxy.cuts - before} cuts`);
  });
}

check("all transports in turn, with cuts and a short history: every gap is told, with its size", async (id, tab) => {
  const page = await tab(`http://127.0.0.1:${proxy.port}`);
  const many = LONG ? 20_000 : 3000;
  await nginx.publish(`/short/${id}`, "1");
  await begin(page, `/channel/${id}`, {
    transports: ["websocket", "stream", "eventsource"],
    climb: 200,
    backoff: { base: 50, max: 200 },
  });
  await until("the first one", async () => (await count(page)) === 1);
  proxy.cutAfter = () => 300 + Math.floor(Math.random() * 20_000);
  proxy.cut();
  const flips = setInterval(() => (proxy.upgrades = proxy.upgrades === "pass" ? "refuse" : "pass"), 700);
  try {
    await publishAll(nginx.port, `/short/${id}`, numbers(2, many - 1), { batch: 20, pause: 10 });
  } finally {
    clearInterval(flips);
    proxy.upgrades = "pass";
    proxy.cutAfter = () => Infinity;
  }
  await nginx.publish(`/short/${id}`, String(many));
  const lost = await assertWhole(page, many);
  assert.ok(lost > 0, "nothing was lost: the test has tested nothing");
});

check("nginx is reloaded and its workers are killed: nothing is lost, nothing comes twice", async (id, tab) => {
  const pages = {};
  for (const transport of ["websocket", "eventsource", "stream", "longpoll"]) {
    pages[transport] = await tab();
    await begin(pages[transport], `/channel/${id}`, { transports: [transport], ...QUICK });
  }
  let i = 0;
  const position = async (name) => {
    const response = await fetch(`${nginx.origin}/pub/${name}`, { headers: { accept: "application/json" } }).catch(
      () => undefined,
    );
    if (!response) return undefined;
    return response.ok ? Number((await response.json()).last_message_id.split(":")[1]) : 0;
  };
  const isDone = new AbortController();
  const publishing = (async () => {
    while (!isDone.signal.aborted) {
      // A message whose answer was lost with its worker is there or not: only the channel knows.
      const before = await position(id);
      const response = await nginx.publish(`/channel/${id}`, String(i + 1)).catch(() => undefined);
      if (response?.ok) i++;
      else i += (await until("a worker", () => position(id))) - before;
      await sleep(5);
    }
  })();
  for (let round = 0; round < (LONG ? 10 : 2); round++) {
    await sleep(300);
    await nginx.reload();
    await sleep(300);
    await nginx.killWorkers();
  }
  isDone.abort();
  await publishing;
  for (const [transport, page] of Object.entries(pages)) assert.equal(await assertWhole(page, i), 0, transport);
});

check("a proxy that eats Upgrade: it falls back at once, and climbs when that is over", async (id, tab) => {
  for (const how of ["refuse", "ignore"]) {
    proxy.upgrades = how;
    const page = await tab(`http://127.0.0.1:${proxy.port}`);
    await begin(page, `/channel/${id}${how}`, { timeout: 1500, climb: 300 });
    await until("a fallback", async () => (await state(page)) === "open");
    assert.equal(await page.evaluate("channel.transport"), "eventsource");
    await nginx.publish(`/channel/${id}${how}`, "1");
    await until("a message", async () => (await count(page)) === 1);
    proxy.upgrades = "pass";
    await until("the WebSocket", async () => (await page.evaluate("channel.transport")) === "websocket");
    await nginx.publish(`/channel/${id}${how}`, "2");
    assert.equal(await assertWhole(page, 2), 0);
  }
});

check("an endpoint that knows no subprotocol is served all the same", async (id, tab) => {
  const page = await tab();
  await begin(page, "/echo");
  await until("the connection", async () => (await state(page)) === "open");
  // Some browsers go on where a server selects none of the subprotocols.
  assert.match(await page.evaluate("channel.transport"), /^(plain|websocket)$/);
});

check("many channels in one connection", async (id, tab) => {
  for (const size of [3, 20]) {
    const names = Array.from({ length: size }, (_, i) => `${id}-${size}-${i}`);
    for (const name of names) await nginx.publish(`/pub/${name}`, `${name} 1`);
    const page = await tab(`http://127.0.0.1:${proxy.port}`);
    await begin(page, `/many/${names.join()}`, QUICK);
    await until("what was there", async () => (await count(page)) === size);
    for (let round = 2; round < 6; round++) {
      proxy.cut();
      for (const name of names) await nginx.publish(`/pub/${name}`, `${name} ${round}`);
      await until(`round ${round}`, async () => (await count(page)) >= size * round);
    }
    const got = JSON.parse(await page.evaluate("JSON.stringify(told)"));
    assert.deepEqual(got.gaps, []);
    for (const name of names) {
      const mine = got.messages.filter((message) => message.startsWith(`${name} `));
      assert.deepEqual(
        mine,
        numbers(1, 5).map((round) => `${name} ${round}`),
      );
    }
  }
});

check("channels.v1 is what a WebSocket speaks", async (id, tab) => {
  const page = await tab();
  await begin(page, `/channel/${id}`, { transports: ["websocket"] });
  await until("it is open", async () => (await state(page)) === "open");
  // The other subprotocol has no position before the first message.
  assert.match(await page.evaluate("channel.position"), /^\d+:0$/);
  await page.evaluate("channel.close()");
});

for (const subscriber of ["websocket", "eventsource", "longpoll"]) {
  check(`NchanSubscriber.js, as it is: ${subscriber}: resumes, and survives a gap`, async (id, tab) => {
    const page = await tab();
    await page.evaluate(`new Promise((resolve, reject) => {
      const script = document.createElement("script");
      Object.assign(script, { src: "/test/node_modules/nchan/NchanSubscriber.js", onload: resolve, onerror: reject });
      document.head.append(script);
    })`);
    const run = (position) =>
      page.evaluate(`(() => {
        window.got = [];
        window.thrown = [];
        addEventListener("error", ({ message }) => thrown.push(message));
        window.nchan = new NchanSubscriber("/channel/${id}", { subscriber: "${subscriber}", msgId: ${position} });
        nchan.on("message", (message) => got.push(message));
        nchan.start();
      })()`);
    const got = async () => JSON.parse(await page.evaluate("JSON.stringify({ got, thrown })"));
    for (const message of numbers(1, 3)) await nginx.publish(`/short/${id}`, message);
    await run("undefined");
    await until("three messages", async () => (await got()).got.length === 3);
    const position = await page.evaluate("nchan.stop(), nchan.lastMessageId");
    await publishAll(nginx.port, `/short/${id}`, numbers(4, 6));
    await run(JSON.stringify(position));
    await until("it goes on", async () => (await got()).got.length === 3);
    assert.deepEqual(await got(), { got: numbers(4, 6), thrown: [] });
    const later = await page.evaluate("nchan.stop(), nchan.lastMessageId");
    // For a subscriber that has not gone yet a worker keeps more than the channel does.
    await until("it has gone", async () => (await nginx.subscribers(`/short/${id}`)) === 0);
    await publishAll(nginx.port, `/short/${id}`, numbers(7, 100));
    await run(JSON.stringify(later));
    await until("the last one", async () => (await got()).got.at(-1) === "100");
    const end = await got();
    await page.evaluate("nchan.stop()");
    if (subscriber === "websocket") assert.deepEqual(JSON.parse(end.got.shift()), {});
    assert.deepEqual(end, { got: numbers(71, 100), thrown: [] });
  });
}

check("what the browser has stored says nothing about where a page is", async (id, tab) => {
  const page = await tab();
  for (const message of numbers(1, 2)) await nginx.publish(`/short/${id}`, message);
  // The first answer of the same URL, for another part of the page, would be named in the second request.
  const got = await page.evaluate(`(async () => {
    const texts = [];
    for (let i = 0; i < 2; i++) texts.push(await (await fetch("/channel/${id}")).text());
    return JSON.stringify(texts);
  })()`);
  assert.deepEqual(JSON.parse(got), ["1", "1"]);
});

check("in a worker", async (id, tab) => {
  await nginx.publish(`/channel/${id}`, "1");
  const page = await tab();
  const script = `import { Channel } from "${nginx.origin}/dist/ws-channel.js";
    const channel = new Channel("${nginx.origin}/channel/${id}");
    channel.on("message", ({ data }) => postMessage(channel.transport + " " + data));
    onmessage = () => channel.close();`;
  await page.evaluate(`(() => {
    const blob = new Blob([${JSON.stringify(script)}], { type: "text/javascript" });
    window.worker = new Worker(URL.createObjectURL(blob), { type: "module" });
    window.said = [];
    worker.onmessage = ({ data }) => said.push(data);
  })()`);
  await until("a message", async () => (await page.evaluate("said.join()")) === "websocket 1");
  await page.evaluate("worker.terminate()");
});

check("publish and presence", async (id, tab) => {
  const page = await tab();
  await page.evaluate(`open_("/channel/${id}?who=ann", { publishUrl: "/channel/${id}", presenceUrl: "/pub/${id}" })`);
  await until("the connection", async () => (await state(page)) === "open");
  const {
    id: first,
    subscribers,
    messages,
  } = await page.evaluate(`channel.publish("1").then(({ id, subscribers, messages }) => ({ id, subscribers, messages }))`);
  assert.match(first, /^\d+:1$/);
  assert.deepEqual([subscribers, messages], [1, 1]);
  await page.evaluate(`channel.publish(new Uint8Array([1, 2]))`);
  await until("both", async () => (await count(page)) === 2);
  assert.equal(await page.evaluate("told.last.isBinary"), true);
  const present = await page.evaluate("channel.presence().then(value => JSON.stringify(value))");
  assert.deepEqual(JSON.parse(present), { subscribers: 1, present: [{ id: "ann", connections: 1 }] });
  const status = await page.evaluate(`channel.publish("x".repeat(2000000)).then(() => 0, ({ status }) => status)`);
  assert.equal(status, 413);
});

check("a token is made for each connection", async (id, tab) => {
  const page = await tab();
  await nginx.publish(`/pub/${id}`, "1");
  await page.evaluate(
    `{
    let nth = 0;
    open_("/guarded/${id}", { token: async () => ++nth < 6 ? "wrong" : "right", backoff: { base: 10 }, transports: ["websocket", "stream"] });
  }`
      .replace(/^\{/, "(() => {")
      .replace(/\}$/, "})()"),
  );
  await until("the right one", async () => (await count(page)) === 1);
  const errors = JSON.parse(await page.evaluate("JSON.stringify(told.errors)"));
  assert.ok(errors.some(({ status }) => status === 401));
});

check("Retry-After is honoured", async (id, tab) => {
  const page = await tab();
  await page.evaluate(`(() => {
    open_("/busy/${id}", { transports: ["stream"], backoff: { base: 10, max: 20 } });
    channel.on("state", ({ state, delay }) => { if (state === "waiting") window.delay = delay; });
  })()`);
  const delay = await until("an answer", () => page.evaluate("window.delay"));
  assert.ok(delay >= 7000 && delay < 7100, `${delay} ms`);
});

check("the position survives a reload of the page", async (id, tab) => {
  const page = await tab();
  await nginx.publish(`/channel/${id}`, "1");
  await begin(page, `/channel/${id}`, { persist: true });
  await until("the first one", async () => (await count(page)) === 1);
  await page.reload();
  await until("the page", () => page.evaluate("window.isReady === true").catch(() => false));
  await nginx.publish(`/channel/${id}`, "2");
  await begin(page, `/channel/${id}`, { persist: true });
  await until("the second one", async () => (await count(page)) === 1);
  await sleep(300);
  assert.equal(await page.evaluate("told.messages.join()"), "2");
});

check(
  "a laptop that was asleep makes its connection anew",
  async (id, tab) => {
    const page = await tab();
    // The page's clock jumps, as it does there; the look at it comes within ten seconds.
    await begin(page, `/channel/${id}`, { transports: ["websocket"] });
    await until("the connection", async () => (await state(page)) === "open");
    await nginx.publish(`/channel/${id}`, "1");
    await until("the first one", async () => (await count(page)) === 1);
    await page.evaluate("(() => { const real = Date.now; Date.now = () => real() + 3600000; })()");
    await until("a new connection", async () => (await page.evaluate("told.states.length")) >= 3);
    await nginx.publish(`/channel/${id}`, "2");
    assert.equal(await assertWhole(page, 2), 0);
    await page.close();
  },
  true,
);

check("a browser that was offline is back at once", async (id, tab) => {
  if (!browser.setOffline) return;
  const page = await tab();
  await begin(page, `/channel/${id}`, { transports: ["stream"], backoff: { base: 60_000, max: 60_000 } });
  await until("the connection", async () => (await state(page)) === "open");
  await nginx.publish(`/channel/${id}`, "1");
  await until("the first one", async () => (await count(page)) === 1);
  await browser.setOffline(true);
  await nginx.publish(`/channel/${id}`, "2");
  await browser.setOffline(false);
  assert.equal(await assertWhole(page, 2), 0);
});

for (const [how, share] of Object.entries({
  "a leader": true,
  "a SharedWorker": { worker: "/dist/ws-channel.worker.js" },
  "a leader, as the SharedWorker is not to be had": { worker: "/dist/nothing.js" },
})) {
  check(
    `one connection for all tabs, by ${how}: hand-over without loss`,
    async (id, tab) => {
      const location = "~ ^/channel/(?<id>.+)";
      const options = { share: share === true ? true : { ...share, name: id }, ...QUICK };
      const url = `/channel/${id}`;
      await nginx.publish(url, "1");
      const pages = [];
      for (let i = 0; i < 3; i++) {
        pages.push(await tab());
        await begin(pages[i], url, options);
        // A tab that comes later gets the history as well.
        await until("the history", async () => (await count(pages[i])) === 1);
      }
      const connections = async () => nginx.connections(await locationName());
      const locationName = async () => {
        const { locations } = await (await fetch(`${nginx.origin}/status`)).json();
        return locations.find(({ location: name }) => name.includes("/channel/"))?.location ?? location;
      };
      await until("one connection", async () => (await connections()) === 1);
      for (const page of pages) await until("open", async () => (await state(page)) === "open");

      let i = 1;
      const stop = new AbortController();
      const publishing = (async () => {
        while (!stop.signal.aborted) {
          await nginx.publish(url, String(++i));
          await sleep(3);
        }
      })();
      await sleep(300);
      // The first one leads, or its worker has been started by it.
      await pages[0].close();
      await sleep(600);
      await pages[1].evaluate("channel.close()");
      await sleep(600);
      const late = await tab();
      await begin(late, url, options);
      await sleep(500);
      stop.abort();
      await publishing;
      assert.equal(await assertWhole(pages[2], i), 0);
      assert.equal(await assertWhole(late, i), 0);
      await until("one connection again", async () => (await connections()) === 1);
      for (const page of [pages[2], late]) await page.evaluate("channel.close()");
      await until("none, as nobody is there any more", async () => (await connections()) === 0);
    },
    how.length > 20,
  );
}

check("tabs that share a connection: a token of a tab, and a server that restarts", async (id, tab) => {
  await nginx.publish(`/pub/${id}`, "1");
  const pages = [await tab(), await tab()];
  for (const page of pages) {
    await page.evaluate(`open_("/guarded/${id}", {
      token: () => "right", share: { worker: "/dist/ws-channel.worker.js" }, backoff: { base: 10, max: 100 },
    })`);
    await until("the history", async () => (await count(page)) === 1);
  }
  await nginx.killWorkers();
  await until("publishing", () =>
    nginx.publish(`/pub/${id}`, "2").then(
      ({ ok }) => ok,
      () => false,
    ),
  );
  for (const page of pages) assert.equal(await assertWhole(page, 2), 0);
});
