/** The single file for a page without modules: `new WsChannel.Channel(url)`. */
import { Channel } from "./channel.js";

Object.assign(globalThis, { WsChannel: { Channel } });
