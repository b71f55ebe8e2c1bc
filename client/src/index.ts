export {
  Channel,
  type ChannelOptions,
  type Presence,
  type Published,
  type PublishOptions,
  type RequestError,
} from "./channel.js";
export type { Share } from "./sharing.js";
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
