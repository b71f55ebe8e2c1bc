// Browsers with one profile and several tabs: `tab(url)` opens one, whose `evaluate(expression)` awaits promises.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { freePort, until } from "./nginx.mjs";

function find(...names) {
  for (const name of names) {
    for (const folder of (process.env.PATH ?? "").split(delimiter)) if (existsSync(join(folder, name))) return join(folder, name);
  }
  return undefined;
}

/** In an expression that is awaited by hand, where the browser's own protocol would take a string as it is. */
const asTab = (page) => ({
  page,
  evaluate: (expression) => page.evaluate(expression),
  reload: () => page.reload(),
  close: () => page.close(),
});

async function chromium() {
  const executablePath = find("chromium", "chromium-browser", "google-chrome");
  if (!executablePath) return "Chromium is not installed";
  const { chromium: type } = await import("playwright-core");
  const browser = await type.launch({
    executablePath,
    chromiumSandbox: false,
    args: [
      "--disable-gpu",
      "--disable-quic",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-dev-shm-usage",
    ],
  });
  const context = await browser.newContext();
  return {
    name: `Chromium ${browser.version()}`,
    async tab(url) {
      const page = await context.newPage();
      await page.goto(url);
      return asTab(page);
    },
    setOffline: (isOffline) => context.setOffline(isOffline),
    close: () => browser.close(),
  };
}

async function firefox() {
  const executablePath = find("firefox-esr", "firefox");
  if (!executablePath) return "Firefox is not installed";
  const { default: puppeteer } = await import("puppeteer-core");
  const browser = await puppeteer.launch({
    browser: "firefox",
    executablePath,
    headless: true,
    timeout: 120_000,
    protocolTimeout: 300_000,
  });
  return {
    name: await browser.version(),
    async tab(url) {
      const page = await browser.newPage();
      await page.goto(url);
      return asTab(page);
    },
    close: () => browser.close(),
  };
}

/** By the W3C's WebDriver, which is spoken here by fetch. */
async function webkit() {
  const driver = find("WebKitWebDriver");
  const libraries = "/usr/lib";
  const browserPath = readdirSync(libraries)
    .flatMap((arch) =>
      ["webkitgtk-6.0", "webkit2gtk-4.1", "webkit2gtk-4.0"].map((name) => join(libraries, arch, name, "MiniBrowser")),
    )
    .find(existsSync);
  if (!driver || !browserPath) return "WebKitWebDriver and MiniBrowser are not installed (Debian's webkit2gtk-driver)";
  if (!find("Xvfb")) return "Xvfb is not installed (Debian's xvfb)";

  const home = mkdtempSync(join(tmpdir(), "ws-channel-webkit-"));
  let display = "";
  const xvfb = spawn("Xvfb", ["-displayfd", "1", "-screen", "0", "1024x768x24", "-nolisten", "tcp"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  xvfb.stdout.on("data", (data) => (display += data));
  await until("Xvfb to start", () => /\d\n/.test(display));
  const port = await freePort();
  const server = spawn(driver, [`--port=${port}`], {
    stdio: "ignore",
    detached: true,
    env: {
      ...process.env,
      DISPLAY: `:${display.trim()}`,
      HOME: home,
      XDG_RUNTIME_DIR: home,
      GDK_BACKEND: "x11",
      LIBGL_ALWAYS_SOFTWARE: "1",
      WEBKIT_DISABLE_COMPOSITING_MODE: "1",
      NO_AT_BRIDGE: "1",
    },
  });
  const call = async (method, path, body) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { method, ...(body && { body: JSON.stringify(body) }) });
    const { value } = await response.json();
    if (!response.ok) throw new Error(`${value.error}: ${value.message}`);
    return value;
  };
  const stop = () => {
    try {
      process.kill(-server.pid, "SIGKILL");
    } catch {
      // It has gone by itself.
    }
    xvfb.kill();
    rmSync(home, { recursive: true, force: true });
  };
  try {
    await until("WebKitWebDriver to start", () =>
      call("GET", "/status").then(
        () => true,
        () => false,
      ),
    );
    const { sessionId, capabilities } = await call("POST", "/session", {
      capabilities: { alwaysMatch: { "webkitgtk:browserOptions": { binary: browserPath, args: ["--automation"] } } },
    });
    const session = `/session/${sessionId}`;
    await call("POST", `${session}/timeouts`, { script: 300_000, pageLoad: 60_000 });
    let first = await call("GET", `${session}/window`);
    // One thing at a time: a command is about the window that was chosen by the one before.
    let queue = Promise.resolve();
    const inWindow = (handle, run) => {
      const result = queue.then(async () => {
        await call("POST", `${session}/window`, { handle });
        return run();
      });
      queue = result.catch(() => undefined);
      return result;
    };
    return {
      name: `WebKitGTK ${capabilities.browserVersion ?? ""}`,
      async tab(url) {
        const handle = first ?? (await call("POST", `${session}/window/new`, { type: "tab" })).handle;
        first = undefined;
        await inWindow(handle, () => call("POST", `${session}/url`, { url }));
        return {
          async evaluate(expression) {
            const script = `const done = arguments[0];
              Promise.resolve().then(() => (${expression})).then(value => done({ value }), error => done({ error: String(error) }))`;
            const { value, error } = await inWindow(handle, () => call("POST", `${session}/execute/async`, { script, args: [] }));
            if (error) throw new Error(error);
            return value;
          },
          reload: () => inWindow(handle, () => call("POST", `${session}/refresh`, {})),
          close: () => inWindow(handle, () => call("DELETE", `${session}/window`)),
        };
      },
      async close() {
        await call("DELETE", session).catch(() => undefined);
        stop();
      },
    };
  } catch (error) {
    stop();
    throw error;
  }
}

const KINDS = { chromium, firefox, webkit };

/** A browser, or why there is none. Chromium is one that has to start where it is installed. */
export async function launch(kind) {
  try {
    return await KINDS[kind]();
  } catch (error) {
    if (kind === "chromium") throw error;
    return `${kind} does not start: ${error}`;
  }
}
