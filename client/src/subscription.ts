import { delay } from "./backoff.js";
import { Received } from "./position.js";
import type { Data, EventMap, Failure, GapEvent, MessageEvent, More, Options, Sink, State, Transport } from "./types.js";

/** A transport that has opened so often without success is passed over. */
const MOST_FAILURES = 3;
/** Milliseconds between two looks at the clock, and the time between them that only a machine that was asleep can explain. */
const TICK = 10_000;
const ASLEEP = 150_000;

/** One connection, or the attempt to make one. */
interface Attempt {
  readonly stop: () => void;
  /** When it was opened. */
  opened?: number;
  /** Whether something has come. */
  received?: boolean;
}

type Connect = NonNullable<ReturnType<Transport>>;
type Timer = ReturnType<typeof setTimeout> | undefined;

// What an environment may have.
const environment: Partial<Pick<typeof globalThis, "document" | "addEventListener" | "sessionStorage" | "location">> = globalThis;

// eslint-disable-next-line @typescript-eslint/no-unsafe-declaration-merging -- the types of the events
export interface Subscription {
  addEventListener<T extends keyof EventMap>(
    type: T,
    listener: (event: EventMap[T]) => unknown,
    options?: AddEventListenerOptions | boolean,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: AddEventListenerOptions | boolean,
  ): void;
  removeEventListener<T extends keyof EventMap>(
    type: T,
    listener: (event: EventMap[T]) => unknown,
    options?: EventListenerOptions | boolean,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: EventListenerOptions | boolean,
  ): void;
}

/**
 * A subscription that stays: it connects, comes back, goes on where it was, and changes the transport where one does not work.
 *
 * Invariant: there is at most one connection whose messages are delivered. A better transport is tried beside it, and takes its place
 * with the position that the first one has reached.
 */
// eslint-disable-next-line @typescript-eslint/no-unsafe-declaration-merging
export class Subscription extends EventTarget {
  readonly url: URL;
  protected readonly settings: Options;
  protected readonly received = new Received();
  /** Whether a connection was open. If its position is not known, what comes next may be after a gap. */
  protected wasOpen = false;
  #state: State = "connecting";
  readonly #order: [name: string, connect: Connect][] = [];
  #current: Attempt | undefined;
  #candidate: Attempt | undefined;
  /** Which transport of the order is in use, or tried next. */
  #at = 0;
  /** Delays since there was a connection that lasted. */
  #attempts = 0;
  /** Attempts of the transport in use since it last worked. */
  #failures = 0;
  readonly #proven = new Set<number>();
  /** The time before which the server does not want to see this client. */
  #notBefore = 0;
  #retry: Timer;
  #climb: Timer;
  #climbs = 0;
  readonly #ended = new AbortController();
  readonly #key: string | false | undefined;

  constructor(url: string | URL, options: Options, transports: Readonly<Record<string, Transport>>) {
    super();
    const { persist, signal } = (this.settings = options);
    this.url = new URL(url, environment.document?.baseURI ?? environment.location?.href);
    this.url.protocol = this.url.protocol.replace("ws", "http");
    for (const name of options.transports ?? Object.keys(transports)) {
      const transport = transports[name];
      if (!transport) throw new TypeError(`no transport ${name}`);
      const connect = transport(options);
      if (connect) this.#order.push([name, connect]);
    }
    if (!this.#order.length) throw new TypeError("no transport");
    this.#key = persist === true ? `ws-channel:${this.url.href}` : persist;
    const position = options.position ?? this.#stored();
    if (position) this.received.move(position);

    let then = Date.now();
    const clock = setInterval(() => {
      const now = Date.now();
      if (now - then > ASLEEP) this.wake(true);
      then = now;
    }, TICK) as ReturnType<typeof setInterval> & { unref?: () => void };
    clock.unref?.();
    const on = (target: Partial<EventTarget> | undefined, type: string, then: () => void) => {
      target?.addEventListener?.(type, then, { signal: this.#ended.signal });
    };
    on(this.#ended.signal, "abort", () => clearInterval(clock));
    on(environment, "online", () => this.wake(true));
    on(environment.document, "visibilitychange", () => {
      if (!environment.document?.hidden) this.wake();
    });
    on(signal, "abort", () => this.close());
    // Whoever has made this gets to add listeners first.
    queueMicrotask(() => (signal?.aborted ? this.close() : this.start()));
  }

  get state(): State {
    return this.#state;
  }

  /** The id of the last message that was received: give it to another subscription to go on there. */
  get position(): string | undefined {
    return this.received.id;
  }

  /** The name of the transport that is in use or being tried. */
  get transport(): string | undefined {
    return this.#order[this.#at]?.[0];
  }

  /** Adds a listener, and returns what removes it. */
  on<T extends keyof EventMap>(type: T, listener: (event: EventMap[T]) => unknown): () => void {
    this.addEventListener(type, listener);
    return () => this.removeEventListener(type, listener);
  }

  /** Messages and gaps from now on, until the channel is closed. What is not read yet is kept. */
  async *[Symbol.asyncIterator](): AsyncGenerator<MessageEvent | GapEvent, void, undefined> {
    const pending: (MessageEvent | GapEvent)[] = [];
    let ready: (() => void) | undefined;
    const push = (event: EventMap[keyof EventMap]) => {
      if (event.type !== "state") pending.push(event as MessageEvent);
      ready?.();
    };
    const remove = (["message", "gap", "state"] as const).map((type) => this.on(type, push));
    try {
      for (;;) {
        const event = pending.shift();
        if (event) yield event;
        else if (this.#state === "closed") return;
        else await new Promise<void>((resolve) => (ready = resolve));
      }
    } finally {
      for (const one of remove) one();
    }
  }

  /** Ends the subscription for good. */
  close(): void {
    if (this.#state === "closed") return;
    this.stop();
    this.#ended.abort();
    this.setState("closed");
  }

  /** Connects at once if it is waiting; if the connection can be expected to be dead, makes a new one. */
  protected wake(isDead = false): void {
    if (this.#retry !== undefined ? Date.now() >= this.#notBefore : isDead && this.#current) {
      this.stop();
      this.#at = 0;
      this.#dial();
    }
  }

  protected start(): void {
    if (this.#state !== "closed") this.#dial();
  }

  /** Ends the connection. What comes of it later is not delivered. */
  protected stop(): void {
    clearTimeout(this.#retry);
    clearTimeout(this.#climb);
    this.#retry = undefined;
    this.#current?.stop();
    this.#candidate?.stop();
    this.#current = this.#candidate = undefined;
  }

  protected setState(state: State, more?: object): void {
    if (state === this.#state && state !== "waiting") return;
    this.#state = state;
    this.dispatch("state", { state, transport: this.transport, ...more });
  }

  /** The URL with the token that is valid now. */
  protected async address(to: string | URL): Promise<URL> {
    const url = new URL(to, this.url);
    const token = await this.settings.token?.();
    if (token) url.searchParams.set("access_token", token);
    return url;
  }

  protected dispatch(type: keyof EventMap, more: object): void {
    this.dispatchEvent(Object.assign(new Event(type), more));
  }

  /** A message that has come or, without data, a gap that was told. Returns whether it was not known before. */
  protected take(data: Data | undefined, id: string | undefined, { lost, ...more }: More): boolean {
    const { received } = this;
    const from = received.id;
    const isGap = data === undefined;
    const skipped = id && !isGap ? received.take(id) : 0;
    if (skipped < 0) return false;
    if (isGap && id) received.move(id);
    else if (!id) received.id = undefined;
    this.#stored(received.id);
    if (lost !== undefined || skipped) this.dispatch("gap", { lost: lost ?? skipped, from, id: isGap ? id : undefined });
    if (!isGap) this.dispatch("message", { ...more, data, id });
    return true;
  }

  /** The position that outlives the page; a new one if it is given. */
  #stored(id?: string): string | null | undefined {
    try {
      // Whoever may not have a storage is thrown out.
      const { sessionStorage } = environment;
      if (!this.#key) return undefined;
      if (id) sessionStorage?.setItem(this.#key, id);
      return sessionStorage?.getItem(this.#key);
    } catch {
      return undefined;
    }
  }

  #dial(): void {
    this.#retry = undefined;
    this.setState("connecting");
    void this.#attempt(this.#at);
  }

  /** A connection by the transport in use, or by a candidate that may take its place. */
  async #attempt(at: number, isCandidate?: boolean): Promise<void> {
    const { settings } = this;
    let close: (() => void) | undefined;
    let timer: Timer;
    let from: string | undefined;
    let isOver = false;

    const limit = (time: number | undefined, reason: string) => {
      clearTimeout(timer);
      if (time) timer = setTimeout(() => sink.end({ reason }), time);
    };
    const arrived = () => {
      sink.open();
      attempt.received = true;
      if (settings.idle) limit(settings.idle, "idle");
      return !isOver;
    };
    const attempt: Attempt = {
      stop() {
        isOver = true;
        clearTimeout(timer);
        close?.();
      },
    };
    const sink: Sink = {
      open: () => {
        if (isOver || attempt.opened) return;
        attempt.opened = Date.now();
        limit(settings.idle, "idle");
        this.#proven.add(at);
        if (attempt === this.#candidate) {
          this.#candidate = undefined;
          this.#current?.stop();
          this.#current = attempt;
          this.#at = at;
          this.#climbs = 0;
          if (from !== this.position) {
            // What it would bring has been delivered since.
            attempt.stop();
            return this.#dial();
          }
        }
        const isAfterUnknown = this.wasOpen && !this.position;
        this.wasOpen = true;
        this.setState("open");
        if (isAfterUnknown) this.take(undefined, undefined, { lost: 0 });
        this.#tryBetter(at);
      },
      message: (data, id, more = {}) => arrived() && this.take(data, id, more),
      gap: (lost, id) => arrived() && this.take(undefined, id, { lost }),
      placed: (id) => {
        if (arrived() && id) this.received.move(id);
      },
      end: (failure) => {
        if (isOver) return;
        attempt.stop();
        if (attempt === this.#candidate) this.#tryBetter(at + 1);
        else this.#lost(failure, attempt);
      },
    };

    if (isCandidate) this.#candidate = attempt;
    else this.#current = attempt;
    limit(settings.timeout ?? 10_000, "timeout");
    try {
      const url = await this.address(this.url);
      if (isOver) return;
      from = this.position;
      if (from) url.searchParams.set("last_event_id", from);
      close = this.#order[at]?.[1](url, sink);
    } catch (cause) {
      sink.end({ cause });
    }
  }

  /** Tries the transports before the one in use, one after the other; then again after a while. */
  #tryBetter(next: number): void {
    clearTimeout(this.#climb);
    this.#candidate = undefined;
    if (!this.#at) return;
    if (next < this.#at) return void this.#attempt(next, true);
    const time = (this.settings.climb ?? 60_000) * Math.min(10, 2 ** this.#climbs++);
    this.#climb = setTimeout(() => this.#attempt(0, true), time * (0.5 + Math.random()));
  }

  /** The connection has ended, or was not made. */
  #lost(failure: Failure, { opened, received }: Attempt): void {
    const { base = 1000, max = 30_000 } = this.settings.backoff ?? {};
    const { code, retryAfter = 0 } = failure;
    const lasted = opened && Date.now() - opened > 4 * base;
    if (lasted) this.#attempts = 0;
    this.stop();
    this.dispatch("error", { ...failure, transport: this.transport });
    if (this.#state === "closed") return;

    // Service Restart and Try Again Later are no failures of the transport.
    if (received || lasted || code === 1012 || code === 1013) this.#failures = 0;
    else if (!retryAfter && (++this.#failures >= MOST_FAILURES || !this.#proven.has(this.#at))) {
      this.#failures = 0;
      this.#at = (this.#at + 1) % this.#order.length;
      // Whoever has just come does not wait for what works.
      if (this.#at && !this.#attempts && !this.#proven.size) return this.#dial();
    }
    const time = retryAfter + delay(++this.#attempts, base, max);
    this.#notBefore = Date.now() + retryAfter;
    this.#retry = setTimeout(() => this.#dial(), time);
    this.setState("waiting", { delay: time });
  }
}
