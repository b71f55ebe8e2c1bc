import { eventsource } from "./eventsource.js";
import { failure, longpoll, request, stream } from "./http.js";
import { type Share, type Sharer, Sharing } from "./sharing.js";
import { Subscription } from "./subscription.js";
import type { Data, EventMap, Failure, More, Options, State } from "./types.js";
import { plain, websocket } from "./websocket.js";

/** What the server has done with a message. */
export interface Published {
  /** The id of the message; undefined if the server has dropped it. */
  id?: string;
  /** How many have subscribed to the channel. */
  subscribers?: number;
  /** How many messages it keeps. */
  messages?: number;
}

export interface PublishOptions {
  contentType?: string;
  /** The name of the event for those who have subscribed by an event stream. */
  name?: string;
  signal?: AbortSignal;
}

/** Who is there. */
export interface Presence {
  /** How many have subscribed, those without an id included. */
  subscribers: number;
  present: { id: string; connections: number }[];
}

export interface ChannelOptions extends Options {
  /** One connection for all tabs of this origin. */
  share?: boolean | Share;
  /** Where to publish; the URL of the channel, if nothing is said. */
  publishUrl?: string | URL;
  /** Where to ask who is there: a location with `mode=info` or `mode=pub`. */
  presenceUrl?: string | URL;
}

/** What `publish` and `presence` throw when the server refuses. */
export type RequestError = Error & Failure;

/** A subscription, with all transports, publishing, presence, and one connection for all tabs. */
export class Channel extends Subscription {
  #sharing: Sharing | undefined;
  declare protected readonly settings: ChannelOptions;

  constructor(url: string | URL, options: ChannelOptions = {}) {
    super(url, options, { websocket, eventsource, stream, longpoll, plain });
  }

  /** Publishes a message. What it returns is the server's word that it has taken it. */
  async publish(data: string | ArrayBuffer | ArrayBufferView | Blob, options: PublishOptions = {}): Promise<Published> {
    const { contentType, name, signal = null } = options;
    // Of a string fetch says itself what it is.
    const type = contentType ?? (typeof data !== "string" && "application/octet-stream");
    const answer = await this.#request(
      this.settings.publishUrl,
      { method: "POST", body: data as BodyInit, signal },
      { ...(type && { "content-type": type }), ...(name && { "x-eventsource-event": name }) },
    );
    const { last_message_id: id, subscribers, messages } = answer as Published & { last_message_id?: string };
    return { id, subscribers, messages };
  }

  /** Who is there. */
  async presence(signal: AbortSignal | null = null): Promise<Presence> {
    return (await this.#request(this.settings.presenceUrl, { signal }, {}, "presence")) as Presence;
  }

  async #request(
    to: string | URL = this.url,
    more: RequestInit,
    headers: Record<string, string>,
    argument?: string,
  ): Promise<object> {
    const url = await this.address(to);
    if (argument) url.searchParams.set(argument, "");
    const response = await request(url, this.settings, more, { accept: "application/json", ...headers });
    const text = await response.text();
    if (!response.ok) throw Object.assign(new Error(`${response.status} ${text}`), failure(response));
    // A message that the server has dropped has an empty answer.
    return JSON.parse(text || "{}") as object;
  }

  override close(): void {
    super.close();
    this.#sharing?.end();
  }

  protected override start(isWorker?: boolean): void {
    const { share } = this.settings;
    if (this.state === "closed") return;
    // Whatever has locks has a BroadcastChannel.
    if (!share || !(globalThis.navigator as Navigator | undefined)?.locks) return super.start();
    this.#sharing = new Sharing(
      // What it uses of the channel is nobody else's business.
      this as unknown as Sharer,
      {
        connect: () => super.start(),
        deliver: (data, id, more) => super.take(data, id, more),
        show: (state) => {
          // It has been followed until now: what is missed by the next connection is missed by this tab as well.
          if (state === "open") this.wasOpen = true;
          super.setState(state);
        },
        fail: (failure) => super.dispatch("error", failure),
      },
      share === true ? {} : share,
      !!isWorker,
    );
  }

  protected override wake(isDead?: boolean): void {
    if (this.#sharing?.isFollower) this.#sharing.say({ kind: "wake" });
    super.wake(isDead);
  }

  protected override take(data: Data | undefined, id: string | undefined, more: More): boolean {
    const isNew = super.take(data, id, more);
    if (isNew) this.#sharing?.took(data, id, more);
    return isNew;
  }

  protected override setState(state: State, more?: object): void {
    if (!this.#sharing?.isFollower || state === "closed") super.setState(state, more);
    if (state !== "closed") this.#sharing?.changed(state);
  }

  protected override dispatch(type: keyof EventMap, more: object): void {
    if (type === "error" && this.#sharing) {
      if (this.#sharing.isFollower) return;
      this.#sharing.say({ kind: "error", failure: { ...more, cause: undefined } });
    }
    super.dispatch(type, more);
  }
}
