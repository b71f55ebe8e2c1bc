import { parse, type Received } from "./position.js";
import type { Data, More, Options, State } from "./types.js";

/** Milliseconds without a word of a leader after which a tab connects by itself. */
const PATIENCE = 3000;
/** Milliseconds without a message, on a connection that is open, after which there are no older ones to come. */
const QUIET = 2000;

/** What the one that is connected, the leader, and the others say to each other. */
export type Note =
  /** Who leads? */
  | { kind: "join" }
  /** It is me, and I am there. */
  | { kind: "lead"; state: State; id: string | undefined }
  /** What the connection has brought. */
  | { kind: "take"; data: Data | undefined; id: string | undefined; more: More }
  | { kind: "error"; failure: object }
  /** There is a reason to connect at once. */
  | { kind: "wake" }
  /** What is the token? That is asked by a leader that is no page. */
  | { kind: "ask" }
  | { kind: "token"; token: string | undefined };

/** What a tab tells the worker. */
export interface Hello {
  url: string;
  name: string;
  /** A lock that the tab holds as long as it is there. */
  tab: string;
  /** In JSON. */
  options: string;
}

/** What is done with the channel as if it did not share. */
export interface Host {
  /** Connects by itself. */
  connect(): void;
  /** Delivers, if it is not known before. */
  deliver(data: Data | undefined, id: string | undefined, more: More): void;
  show(state: State): void;
  fail(failure: object): void;
}

/** The channel that shares its connection. */
export interface Sharer {
  readonly url: URL;
  readonly settings: Options;
  readonly received: Received;
  /** Ends its own connection. */
  stop(): void;
  wake(): void;
}

export interface Share {
  /** What is shared: pages of one origin that say the same name have one connection. The URL, if nothing is said. */
  name?: string;
  /** The URL of `ws-channel.worker.js`, on this origin: the connection is then that of a SharedWorker, where there are such. */
  worker?: string | URL;
}

/** The name of the channel and of the lock by which those that share a connection know each other. */
export const PREFIX = "ws-channel:";

/** Whether everything up to this position has been received. */
function includes({ offsets }: Received, id: string): boolean {
  return !!parse(id)?.every(([epoch, offset]) => (offsets.get(epoch) ?? -1) >= offset);
}

/**
 * One connection for all tabs. The one that has the lock leads: it is connected, and tells the others what it gets. When it goes,
 * the lock is the next one's, who goes on at its own position.
 *
 * Each tab keeps its own position, and compares it with that of the leader when it joins and whenever there is a new leader. One that
 * is behind connects by itself until it has caught up; what the leader says meanwhile waits. One that is ahead ignores what it knows.
 */
export class Sharing {
  readonly #bus: BroadcastChannel;
  readonly #name: string;
  readonly #ended = new AbortController();
  #isLeader = false;
  /** Whether this tab is connected by itself. */
  #isAlone = false;
  /** Whether nobody has to be caught up with: there is no leader, or its positions cannot be compared. */
  #isIndependent = false;
  /** How this tab's own connection is. */
  #state: State = "connecting";
  /** What the leader has said while this tab was alone. */
  #waiting: Extract<Note, { kind: "take" }>[] = [];
  #leader: Extract<Note, { kind: "lead" }> | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isCompeting = false;

  constructor(
    private readonly sharer: Sharer,
    private readonly host: Host,
    share: Share,
    private readonly isWorker: boolean,
  ) {
    this.#name = PREFIX + (share.name ?? sharer.url.href);
    this.#bus = new BroadcastChannel(this.#name);
    this.#bus.onmessage = ({ data }) => this.#hear(data as Note);
    if (!isWorker) {
      this.#timer = setTimeout(() => this.#goAlone(true), PATIENCE);
      this.say({ kind: "join" });
    }
    if (share.worker && "SharedWorker" in globalThis) this.#employ(share.worker);
    else this.#compete();
  }

  /** Whether what the host's own connection says of its state is the state. */
  get isFollower(): boolean {
    return !this.#isLeader && !this.#isIndependent;
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#ended.abort();
    this.#bus.close();
  }

  /** The host's own connection has brought something new. */
  took(data: Data | undefined, id: string | undefined, more: More): void {
    if (this.#isLeader) this.say({ kind: "take", data, id, more });
    else this.#compare();
  }

  /** The host's own connection has another state. */
  changed(state: State): void {
    this.#state = state;
    if (this.#isLeader) this.#tell(state);
    else if (this.#isAlone) this.#compare();
  }

  say(note: Note): void {
    if (!this.#ended.signal.aborted) this.#bus.postMessage(note);
  }

  #tell(state: State): void {
    this.#leader = { kind: "lead", state, id: this.sharer.received.id };
    this.say(this.#leader);
  }

  /** Waits for a lock, and holds it until the end. */
  #hold(name: string, then: () => void): void {
    const { signal } = this.#ended;
    navigator.locks
      .request(name, { signal }, () => {
        if (signal.aborted) return undefined;
        then();
        return new Promise((resolve) => signal.addEventListener("abort", resolve));
      })
      .catch(() => undefined);
  }

  /** Waits until it is the one to lead. */
  #compete(): void {
    if (this.#isCompeting) return;
    this.#isCompeting = true;
    this.#hold(this.#name, () => this.#lead());
  }

  #employ(script: string | URL): void {
    const { sharer } = this;
    const tab = `${this.#name}:${Math.random()}`;
    this.#hold(tab, () => {
      const worker = new SharedWorker(script, { name: "ws-channel" });
      worker.onerror = () => this.#compete();
      // Functions and the like stay here.
      const options = JSON.stringify(sharer.settings);
      worker.port.postMessage({ url: sharer.url.href, name: this.#name.slice(PREFIX.length), tab, options } satisfies Hello);
    });
  }

  #lead(): void {
    clearTimeout(this.#timer);
    this.#isLeader = true;
    this.#isIndependent = false;
    // Those that are not delivered yet come again.
    this.#waiting = [];
    if (this.#isAlone) {
      this.#isAlone = false;
      this.host.show(this.#state);
      this.#tell(this.#state);
    } else this.host.connect();
  }

  #hear(note: Note): void {
    const { host } = this;
    switch (note.kind) {
      case "join":
        if (this.#isLeader && this.#leader) this.#tell(this.#leader.state);
        break;
      case "lead":
        if (this.#isLeader) return;
        clearTimeout(this.#timer);
        this.#leader = note;
        // From now on this tab is the next one.
        this.#compete();
        this.#compare();
        break;
      case "take":
        // Without a leader it is one that has not answered yet: its position then tells that this message is missing.
        if (this.#isLeader || this.#isIndependent || !this.#leader) return;
        this.#leader.id = note.id ?? this.#leader.id;
        if (this.#isAlone) this.#waiting.push(note);
        else this.#deliver(note);
        break;
      case "error":
        if (this.isFollower) host.fail(note.failure);
        break;
      case "wake":
        if (this.#isLeader) this.sharer.wake();
        break;
      case "ask":
        if (!this.isWorker) void this.#answer();
    }
  }

  async #answer(): Promise<void> {
    this.say({ kind: "token", token: await this.sharer.settings.token?.() });
  }

  #deliver({ data, id, more }: Extract<Note, { kind: "take" }>): void {
    if (data !== undefined || !id || !includes(this.sharer.received, id)) this.host.deliver(data, id, more);
  }

  /** Compares this tab's position with that of the leader: one that is behind is connected until it is not. */
  #compare(): void {
    const leader = this.#leader;
    if (!leader) return;
    const { received } = this.sharer;
    for (const id of [received.id, leader.id]) if (id && !parse(id)) return this.#goAlone(true);
    clearTimeout(this.#timer);
    if (leader.id ? includes(received, leader.id) : !received.id) return this.#follow();
    this.#goAlone(false);
    if (this.#state !== "open") return;
    this.#timer = setTimeout(() => {
      // Where the leader is not connected either, nobody knows whether something has been missed.
      if (leader.state !== "open") return this.#compare();
      if (!received.id && leader.id) received.move(leader.id);
      this.#follow();
    }, QUIET);
  }

  #goAlone(isIndependent: boolean): void {
    this.#isIndependent = isIndependent;
    if (this.#isAlone) return;
    this.#isAlone = true;
    this.host.connect();
  }

  /** Takes from the leader what comes from now on. */
  #follow(): void {
    this.#isIndependent = false;
    if (this.#isAlone) {
      this.#isAlone = false;
      this.sharer.stop();
    }
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const note of waiting) this.#deliver(note);
    if (this.#leader) this.host.show(this.#leader.state);
  }
}
