// The recipes of docs/client.md, each in Chromium or in its own runtime against the real module.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { createRequire } from "node:module";
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { build } from "esbuild";
import { launch } from "../lib/browsers.mjs";
import { CLIENT, Nginx, until } from "../lib/nginx.mjs";

const text = readFileSync(join(CLIENT, "../docs/client.md"), "utf8");
const recipes = new Map([...text.matchAll(/<!-- recipe: (\S+) -->\n```\w+\n(.*?)```/gs)].map(([, name, code]) => [name, code]));
// In the package, so that "ws-channel" is found as it is by those who have installed it.
const folder = join(CLIENT, "dist/recipes");
const needs = join(CLIENT, "test/node_modules");
const require = createRequire(join(CLIENT, "test/package.json"));

const nginx = new Nginx(`
  location /room/ {
    websocket_channel          $uri mode=pubsub;
    websocket_channel_history  length=50 time=1h;
    websocket_channel_start    oldest;
  }
`);
let browser;

before(async () => {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  cpSync(join(CLIENT, "dist/ws-channel.min.js"), join(folder, "ws-channel.min.js"));
  await nginx.start();
  browser = await launch("chromium");
});

after(async () => {
  if (typeof browser !== "string") await browser?.close();
  await nginx.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** What makes the frameworks' files into modules, as their own bundler plugins do. */
const components = {
  name: "components",
  setup({ onLoad }) {
    onLoad({ filter: /\.svelte$/ }, ({ path }) => {
      const { compile } = require("svelte/compiler");
      return { contents: compile(readFileSync(path, "utf8"), { filename: path }).js.code, loader: "js" };
    });
    onLoad({ filter: /\.vue$/ }, ({ path }) => {
      const { compileScript, parse } = require("vue/compiler-sfc");
      const { descriptor } = parse(readFileSync(path, "utf8"), { filename: path });
      return { contents: compileScript(descriptor, { id: "room", inlineTemplate: true }).content, loader: "js" };
    });
  },
};

const MOUNT = {
  "react.jsx": `import { createElement, StrictMode } from "react";
    import { createRoot } from "react-dom/client";
    import { Room } from "./react.jsx";
    createRoot(document.getElementById("app")).render(createElement(StrictMode, null, createElement(Room, { url })));`,
  "Room.vue": `import { createApp } from "vue";
    import Room from "./Room.vue";
    createApp(Room, { url }).mount("#app");`,
  "Room.svelte": `import { mount } from "svelte";
    import Room from "./Room.svelte";
    mount(Room, { target: document.getElementById("app"), props: { url } });`,
};

test("each recipe has at most 15 lines", () => {
  assert.deepEqual([...recipes.keys()].sort(), ["Room.svelte", "Room.vue", "node.mjs", "plain.html", "react.jsx"]);
  for (const [name, code] of recipes) assert.ok(code.trimEnd().split("\n").length <= 15, name);
});

async function shows(tab, expected) {
  const lines = "[...document.querySelectorAll('li')].map(item => item.textContent).join('|')";
  await until(expected, async () => (await tab.evaluate(lines)) === expected).catch(async (error) => {
    throw new Error(`${error.message}, but ${await tab.evaluate(lines)}`);
  });
}

for (const name of ["react.jsx", "Room.vue", "Room.svelte", "plain.html"]) {
  test(name, { timeout: 120_000 }, async (context) => {
    if (typeof browser === "string") return context.skip(browser);
    const room = name === "plain.html" ? "/room/lobby" : `/room/${name}`;
    await nginx.publish(room, "before");
    writeFileSync(join(folder, name), recipes.get(name));
    let page = name;
    if (name !== "plain.html") {
      writeFileSync(join(folder, `${name}.mount.js`), MOUNT[name].replace("{ url }", `{ url: ${JSON.stringify(room)} }`));
      await build({
        entryPoints: [join(folder, `${name}.mount.js`)],
        outfile: join(folder, `${name}.bundle.js`),
        bundle: true,
        format: "iife",
        jsx: "automatic",
        define: { "process.env.NODE_ENV": '"development"' },
        conditions: ["browser", "svelte"],
        nodePaths: [needs],
        plugins: [components],
        logLevel: "error",
      });
      page = `${name}.html`;
      writeFileSync(join(folder, page), `<!doctype html><div id="app"></div><script src="${name}.bundle.js"></script>`);
    } else {
      const html = recipes.get(name);
      writeFileSync(join(folder, name), html.replace('src="/ws-channel.min.js"', 'src="ws-channel.min.js"'));
    }
    const tab = await browser.tab(`${nginx.origin}/dist/recipes/${page}`);
    await shows(tab, "before");
    await nginx.publish(room, "and after");
    await shows(tab, "before|and after");
    await tab.close();
  });
}

/** Runs a program until it ends, and returns what it has printed. */
function run(command, args) {
  const child = spawn(command, args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1" },
  });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (said += data));
  const done = new Promise((resolve) => child.once("close", resolve));
  return { said: () => said, done, kill: () => child.kill() };
}

for (const [runtime, command] of Object.entries({
  "Node.js": (file) => [process.execPath, [file]],
  Deno: (file) => {
    const map = join(folder, "deno.json");
    writeFileSync(map, JSON.stringify({ imports: { "ws-channel": "../ws-channel.js" } }));
    return [join(needs, ".bin/deno"), ["run", "--quiet", "--no-lock", "--allow-net=127.0.0.1", "--config", map, file]];
  },
})) {
  test(`node.mjs in ${runtime}`, { timeout: 120_000 }, async (context) => {
    const file = join(folder, `${runtime}.mjs`);
    writeFileSync(file, recipes.get("node.mjs").replace("http://127.0.0.1:8080/room/lobby", `${nginx.origin}/room/${runtime}`));
    const [program, args] = command(file);
    if (runtime === "Deno") {
      try {
        execFileSync(program, ["--version"], { stdio: "ignore" });
      } catch {
        return context.skip("Deno is not installed");
      }
    }
    await nginx.publish(`/room/${runtime}`, "before");
    const running = run(program, args);
    try {
      await until(`what ${runtime} prints, but: ${running.said()}`, () => running.said().includes("before")).catch(() => {
        throw new Error(running.said());
      });
      await nginx.publish(`/room/${runtime}`, "that is all");
      await running.done;
      assert.equal(running.said(), "before\nthat is all\n");
    } finally {
      running.kill();
    }
  });
}
