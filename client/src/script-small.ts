/** The small one for a page without modules: `new WsChannel.Channel(url)`. */
import { Channel } from "./small.js";

(globalThis as typeof globalThis & { WsChannel?: object }).WsChannel = { Channel };
