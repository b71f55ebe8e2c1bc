// What someone who has installed the package writes compiles, and what is wrong does not.
import { Channel, type ChannelOptions, type MessageEvent } from "ws-channel";
import { Channel as SmallChannel } from "ws-channel/small";

const options: ChannelOptions = {
  transports: ["websocket", "stream"],
  token: async () => (await fetch("/token")).text(),
  share: { name: "room", worker: new URL("/ws-channel.worker.js", "https://example.com") },
  backoff: { max: 1000 },
};
const channel = new Channel("/room", options);
const remove: () => void = channel.on("message", ({ data, id }: MessageEvent) => [data, id]);
channel.addEventListener("gap", ({ lost, from }) => lost.toFixed() + (from ?? ""), { once: true });
channel.on("state", ({ state, delay }) => state === "waiting" && delay?.toFixed());
channel.on("error", ({ status }) => status === 403 && channel.close());
// @ts-expect-error there is no such event
channel.on("open", remove);
// @ts-expect-error the position is the channel's
channel.position = "1:1";

export async function use(): Promise<string | undefined> {
  const { id } = await channel.publish(new Uint8Array([1]), { name: "x" });
  const { present } = await channel.presence(AbortSignal.timeout(1000));
  for await (const event of new SmallChannel("/room", { signal: AbortSignal.timeout(1000) })) {
    if (event.type === "gap") return String(event.lost);
    if (typeof event.data === "string") return event.data;
  }
  return id ?? present[0]?.id;
}
