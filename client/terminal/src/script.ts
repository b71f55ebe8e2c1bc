/** The single file for a page without modules: `WsTerminal.attach(terminal, url)`. */
import { attach } from "./index.js";

Object.assign(globalThis, { WsTerminal: { attach } });
