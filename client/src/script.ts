/** The single file for a page without modules: `new WsChannel.Channel(url)`. */
import { Channel } from "./channel.js";

(globalThis as typeof globalThis & { WsChannel?: object }).WsChannel = { Channel };
