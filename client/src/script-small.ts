/** The small one for a page without modules: `new WsChannel.Channel(url)`. */
import { Channel } from "./small.js";

Object.assign(globalThis, { WsChannel: { Channel } });
