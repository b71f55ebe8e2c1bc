/** What a message was sent as: text, or octets. */
export type Data = string | ArrayBuffer;

/** `waiting`: not connected, and `delay` tells when the next attempt is made. `closed` is for good. */
export type State = "connecting" | "open" | "waiting" | "closed";

/** A message of the channel. */
export interface MessageEvent extends Event {
  readonly type: "message";
  readonly data: Data;
  /** The position after this message; undefined where the server tells none (transport `plain`). */
  readonly id?: string;
  readonly contentType?: string;
  /** The name of the event, of a message that was published with `X-EventSource-Event` and came by an event stream. */
  readonly name?: string;
  /** The channel that it came from, where the server tells. */
  readonly channel?: string;
}

/** Messages are lost: they are no longer in the history. */
export interface GapEvent extends Event {
  readonly type: "gap";
  /** How many; 0 if nobody knows, which may also mean none. */
  readonly lost: number;
  /** The last position before the gap; undefined if there is none. */
  readonly from?: string;
  /** The position after the gap, where it is known before the next message. */
  readonly id?: string;
}

export interface StateEvent extends Event {
  readonly type: "state";
  readonly state: State;
  /** The name of the transport that is in use or being tried. */
  readonly transport?: string;
  /** Milliseconds until the next attempt, in the state `waiting`. */
  readonly delay?: number;
}

/** An attempt has failed or a connection was lost. The channel goes on trying until it is closed. */
export interface ErrorEvent extends Event, Failure {
  readonly type: "error";
  readonly transport?: string;
}

export interface EventMap {
  message: MessageEvent;
  gap: GapEvent;
  state: StateEvent;
  error: ErrorEvent;
}

/** Why a connection could not be made or has ended; what a transport cannot see is undefined. */
export interface Failure {
  /** The status of the HTTP response. */
  readonly status?: number;
  /** The code of the WebSocket's Close. */
  readonly code?: number;
  readonly reason?: string;
  /** Milliseconds that the server asks to be left alone for. */
  readonly retryAfter?: number;
  /** What was thrown. */
  readonly cause?: unknown;
}

export interface Backoff {
  /** Milliseconds. The first attempt comes at random within twice this time, each later one within twice the time before. */
  base?: number;
  /** Milliseconds, the longest such time. */
  max?: number;
}

export interface Options {
  /** Names of transports, in the order in which they are tried. */
  transports?: readonly string[];
  /** Where to begin: the id of a message, of which the next one is wanted. */
  position?: string | undefined;
  /** Keeps the position in sessionStorage, under this key, or one made of the URL. */
  persist?: boolean | string;
  /** Called before each connection; its value is the argument `access_token` of the URL. */
  token?: () => string | undefined | Promise<string | undefined>;
  /** Closes the channel. */
  signal?: AbortSignal | undefined;
  /** Whether cookies are sent to another origin, by EventSource and fetch. */
  credentials?: boolean;
  /** Headers for the transports and calls that use fetch. */
  headers?: Readonly<Record<string, string>>;
  /** Names of events that the transport `eventsource` listens to; the others take every event. */
  events?: readonly string[];
  backoff?: Backoff;
  /** Milliseconds in which a connection has to be made: 10,000. */
  timeout?: number;
  /** Milliseconds without anything from the server after which the connection is taken for dead; 0, the default: never. */
  idle?: number;
  /** Milliseconds after which a transport that comes earlier in the order is tried again: 60,000, later up to ten times that. */
  climb?: number;
  /** Constructors, where the global ones are not there or not to be used. */
  WebSocket?: typeof WebSocket | undefined;
  EventSource?: typeof EventSource | undefined;
  fetch?: typeof fetch | undefined;
}

/** What comes with a message: `lost` messages before it, if the server told so. */
export type More = Pick<MessageEvent, "contentType" | "name" | "channel"> & { lost?: number };

/** What a transport tells. Nothing is to be told after `end`. */
export interface Sink {
  open: () => void;
  message: (data: Data, id: string | undefined, more?: More) => void;
  /** `lost` messages before the position after `id` are lost. */
  gap: (lost: number, id: string | undefined) => void;
  /** Something has come that is no message, perhaps the position. */
  placed: (id?: string) => void;
  end: (failure: Failure) => void;
}

/** What connects, and returns what ends the connection; undefined if this environment has no such transport. */
export type Transport = (options: Options) => ((url: URL, sink: Sink) => () => void) | undefined;
