import { eventsource } from "./eventsource.js";
import { Subscription } from "./subscription.js";
import type { Options } from "./types.js";
import { plain, websocket } from "./websocket.js";

/** A subscription by WebSocket or EventSource. */
export class Channel extends Subscription {
  constructor(url: string | URL, options: Options = {}) {
    super(url, options, { websocket, eventsource, plain });
  }
}

export type {
  Backoff,
  Data,
  ErrorEvent,
  EventMap,
  Failure,
  GapEvent,
  MessageEvent,
  Options,
  State,
  StateEvent,
} from "./types.js";
