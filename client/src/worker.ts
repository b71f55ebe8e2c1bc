/** The SharedWorker that holds the connections for all tabs. */
import { Channel } from "./channel.js";
import type { Options } from "./types.js";
import { type Hello, type Note, PREFIX } from "./sharing.js";

/** A channel that never follows: it waits until it is the one to lead. Tokens are those of the tabs. */
class WorkerChannel extends Channel {
  constructor({ url, name, options }: Hello) {
    super(url, {
      ...(JSON.parse(options) as Options),
      // These are the tabs' own.
      signal: undefined,
      persist: undefined,
      position: undefined,
      share: { name },
      token: () =>
        new Promise((resolve, reject) => {
          const bus = new BroadcastChannel(PREFIX + name);
          const timer = setTimeout(() => {
            bus.close();
            reject(new Error("no tab has answered"));
          }, 5000);
          bus.onmessage = ({ data }) => {
            const note = data as Note;
            if (note.kind !== "token") return;
            clearTimeout(timer);
            bus.close();
            resolve(note.token);
          };
          bus.postMessage({ kind: "ask" } satisfies Note);
        }),
    });
  }

  protected override start(): void {
    super.start(true);
  }
}

const channels = new Map<string, { channel: Channel; tabs: number }>();

function enter(hello: Hello): void {
  const { name, tab } = hello;
  const entry = channels.get(name) ?? { channel: new WorkerChannel(hello), tabs: 0 };
  channels.set(name, entry);
  entry.tabs++;
  // The tab has this lock as long as it is there.
  void navigator.locks.request(tab, () => {
    if (--entry.tabs) return;
    channels.delete(name);
    entry.channel.close();
  });
}

addEventListener("connect", (event) => {
  const [port] = (event as globalThis.MessageEvent).ports;
  if (port) port.onmessage = ({ data }) => enter(data as Hello);
});
