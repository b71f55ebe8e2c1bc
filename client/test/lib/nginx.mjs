// An nginx with the module, on a port and in a folder of its own, in the foreground as a child of the test.
import { spawn } from "node:child_process";
import { mkdtempSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const CLIENT = fileURLToPath(new URL("../..", import.meta.url));
const BINARY = process.env.TEST_NGINX_BINARY || "nginx";
const MODULE = process.env.TEST_NGINX_LOAD_MODULES || join(CLIENT, "../target/ngx_ws_exec.so");

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Until the condition holds; returns what it returned. */
export async function until(what, condition, timeout = 30_000) {
  const end = Date.now() + timeout;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`deadline: ${what}`);
    await sleep(20);
  }
}

/** A port below those that the system gives to outgoing connections. */
export async function freePort() {
  const [end] = readFileSync("/proc/sys/net/ipv4/ip_local_port_range", "utf8").split(/\s+/).map(Number);
  for (;;) {
    const port = 10_240 + Math.floor(Math.random() * (end - 10_240));
    const server = createServer();
    const isFree = await new Promise((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => resolve(true));
    });
    await new Promise((resolve) => server.close(resolve));
    if (isFree) return port;
  }
}

export class Nginx {
  #locations;
  #http;
  #expected;

  /** `expected`: what may be in the log at the level alert. */
  constructor(locations, { http = "", expected = [] } = {}) {
    this.#locations = locations;
    this.#http = http;
    this.#expected = expected;
    this.prefix = mkdtempSync(join(tmpdir(), "ws-channel-"));
    mkdirSync(join(this.prefix, "temp"));
  }

  get origin() {
    return `http://127.0.0.1:${this.port}`;
  }

  async start() {
    this.port ??= await freePort();
    const user = process.getuid() === 0 ? "user root;" : "";
    const conf = join(this.prefix, "nginx.conf");
    writeFileSync(
      conf,
      `daemon off; worker_processes 2; pid nginx.pid; error_log error.log info; ${user}
       load_module ${MODULE};
       events { worker_connections 4096; }
       http {
         log_format when '$msec $request_method $uri $status $request_time';
         access_log access.log when;
         ${["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path temp/${name};`).join(" ")}
         types { text/html html; text/javascript js; text/css css; }
         ${this.#http}
         server {
           listen 127.0.0.1:${this.port} backlog=4096;
           root ${CLIENT};
           location = /status { websocket_status json; }
           ${this.#locations}
         }
       }`,
    );
    this.process = spawn(BINARY, ["-p", `${this.prefix}/`, "-c", conf, "-e", "error.log"], { stdio: "ignore" });
    this.process.once("exit", (code) => (this.exited = code ?? -1));
    this.exited = undefined;
    await until("nginx to start", async () => {
      if (this.exited !== undefined) throw new Error(`nginx ended: ${this.log}`);
      return fetch(`${this.origin}/status`).then(
        (response) => response.ok,
        () => false,
      );
    });
  }

  get log() {
    return this.#read("error.log");
  }

  get accessLog() {
    return this.#read("access.log").trim().split("\n");
  }

  #read(name) {
    try {
      return readFileSync(join(this.prefix, name), "utf8");
    } catch {
      return "";
    }
  }

  get workers() {
    const { pid } = this.process;
    return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8")
      .trim()
      .split(" ")
      .filter((child) => {
        try {
          return readFileSync(`/proc/${child}/cmdline`, "utf8").startsWith("nginx: worker process\0".slice(0, 21));
        } catch {
          return false;
        }
      })
      .map(Number);
  }

  /** New workers; the old ones may still be on their way out. */
  async reload() {
    const old = new Set(this.workers);
    this.process.kill("SIGHUP");
    await until("new workers", () => this.workers.filter((pid) => !old.has(pid)).length >= 2);
  }

  async killWorkers() {
    const old = new Set(this.workers);
    for (const pid of old) process.kill(pid, "SIGKILL");
    await until("new workers", () => this.workers.filter((pid) => !old.has(pid)).length >= 2);
  }

  /** Open connections to this location. */
  async connections(location) {
    const { locations } = await (await fetch(`${this.origin}/status`)).json();
    return locations
      .filter(({ location: name }) => name === location)
      .reduce((sum, { connections }) => sum + connections.current, 0);
  }

  publish(path, body, headers = {}) {
    return fetch(`${this.origin}${path}`, { method: "POST", body, headers });
  }

  /** How many there are of the channel that this location publishes to. */
  async subscribers(path) {
    const answer = await fetch(`${this.origin}${path}`, { headers: { accept: "text/json" } });
    return (await answer.json()).subscribers;
  }

  /** Ends it; throws if the log has what should not be there. */
  async stop() {
    if (this.exited === undefined) {
      this.process.kill("SIGTERM");
      await until("nginx to end", () => this.exited !== undefined);
    }
    const complaints = this.log
      .split("\n")
      .filter((line) => /\[(alert|crit|emerg)\]/.test(line) && !this.#expected.some((pattern) => pattern.test(line)));
    rmSync(this.prefix, { recursive: true, force: true });
    if (complaints.length) throw new Error(complaints.slice(0, 5).join("\n"));
  }
}
