/** A terminal in the browser: xterm.js before a program on a pseudo-terminal behind a WebSocket. */

/** What is used of xterm.js: its `Terminal` is one. */
export interface TerminalLike {
  readonly rows: number;
  readonly cols: number;
  readonly options: { disableStdin?: boolean };
  write(data: string | Uint8Array, done?: () => void): void;
  resize(cols: number, rows: number): void;
  reset(): void;
  onData(listener: (data: string) => void): Disposable;
  onBinary(listener: (data: string) => void): Disposable;
  onResize(listener: () => void): Disposable;
  onTitleChange(listener: (title: string) => void): Disposable;
}

export interface Disposable {
  dispose(): void;
}

/** `ended`: the program has ended, and a key starts it again. `closed` is for good. */
export type TerminalState = "connecting" | "open" | "waiting" | "ended" | "closed";

export interface TerminalOptions {
  /** Nothing is sent but the size. */
  readOnly?: boolean;
  /** Nothing is sent at all, for a terminal of others that one may only watch. Its size is theirs. */
  watch?: boolean;
  /** Whether a connection that was lost is made again: with a new program, unless the server keeps it. */
  reconnect?: boolean;
  /** Called with the title that the program sets; sets that of the page, if nothing is said. `false`: nothing is done. */
  title?: ((title: string) => void) | false;
  /** Called before each connection; its value is the argument `access_token` of the URL. */
  token?: () => string | undefined | Promise<string | undefined>;
  onState?: (state: TerminalState) => void;
  signal?: AbortSignal;
  /** Milliseconds: the first attempt comes at random within twice `base`, each later one within twice the time before, at most `max`. */
  backoff?: { base?: number; max?: number };
  WebSocket?: typeof WebSocket;
}

export interface Attached {
  readonly state: TerminalState;
  /** Connects again, with a new program, whatever there is now. */
  restart(): void;
  /** Ends the connection, and with it the program. The terminal stays. */
  close(): void;
}

/** Characters of one message. A paste of any size goes out in pieces, so that no limit of a message is met. */
const PIECE = 8192;

/** Octets that wait in the browser before the next piece waits here: a program that reads slowly does not fill the memory of the page. */
const WAITING = 65_536;

/** Milliseconds between two looks at what waits in the browser: nothing tells that it has gone. */
const LOOK = 20;

interface Size {
  cols: number;
  rows: number;
}

/** The size of a terminal that several clients share. They are told of it by a text message that is nothing but this control sequence. */
function toldSize(data: unknown): Size | undefined {
  if (typeof data !== "string" || !data.startsWith("\x1b[8;")) return;
  const [, rows, cols] = /^8;(\d{1,5});(\d{1,5})t$/.exec(data.slice(2)) ?? [];
  return rows && cols ? { cols: Number(cols), rows: Number(rows) } : undefined;
}

/** What a lost connection may be that is worth another attempt: everything that is not the program's own end. */
function isLost(code: number): boolean {
  return code === 1001 || code === 1006 || code === 1012 || code === 1013 || code === 1014;
}

/** Text in pieces, none of which ends inside a character. */
function* pieces(text: string): Generator<string, void, undefined> {
  for (let from = 0; from < text.length;) {
    let to = from + PIECE;
    const last = text.charCodeAt(to - 1);
    if (to < text.length && last >= 0xd800 && last < 0xdc00) to--;
    yield text.slice(from, to);
    from = to;
  }
}

/** Connects a terminal to a location with `websocket_exec_pty on` and `websocket_exec_format bytes`. */
export function attach(terminal: TerminalLike, url: string | URL, options: TerminalOptions = {}): Attached {
  const { watch = false, readOnly = watch, reconnect = true, title, token, onState, signal } = options;
  const { base = 1000, max = 30_000 } = options.backoff ?? {};
  const Socket = options.WebSocket ?? WebSocket;
  const ended = new AbortController();
  let state: TerminalState = "connecting";
  let socket: WebSocket | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let attempts = 0;
  let opened = 0;
  let turn = 0;
  /** What the page has room for. */
  let wanted: Size = { cols: terminal.cols, rows: terminal.rows };
  /** What the clients of the terminal have agreed on, where there are several. */
  let agreed: Size | undefined;
  let isAgreeing = false;
  /** What has been typed and waits for what was typed before it. */
  let waiting: (string | Uint8Array<ArrayBuffer>)[] = [];
  let pacing: ReturnType<typeof setTimeout> | undefined;

  const show = (next: TerminalState) => {
    state = next;
    onState?.(next);
  };
  const say = (text: string) => terminal.write(`\r\n[${text}]\r\n`);
  const isOpen = () => socket?.readyState === 1;
  // A message that is nothing but this control sequence sets the size and does not reach the program.
  const resize = () => {
    if (!watch && isOpen()) socket?.send(`\x1b[8;${wanted.rows};${wanted.cols}t`);
  };
  const agree = () => {
    if (!agreed || (agreed.cols === terminal.cols && agreed.rows === terminal.rows)) return;
    isAgreeing = true;
    terminal.resize(agreed.cols, agreed.rows);
    isAgreeing = false;
  };
  const resized = () => {
    if (isAgreeing) return;
    wanted = { cols: terminal.cols, rows: terminal.rows };
    resize();
    // Until it is known what comes of that, the terminal is as large as the program has it.
    if (agreed) terminal.write("", agree);
  };

  const flush = () => {
    clearTimeout(pacing);
    while (socket?.readyState === 1 && socket.bufferedAmount < WAITING) {
      const next = waiting.shift();
      if (next === undefined) return;
      socket.send(next);
    }
    if (waiting.length) pacing = setTimeout(flush, LOOK);
  };

  const drop = () => {
    turn++;
    clearTimeout(timer);
    clearTimeout(pacing);
    waiting = [];
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
      socket = undefined;
    }
  };

  const lost = (code: number, reason: string) => {
    socket = undefined;
    waiting = [];
    if (Date.now() - opened > 4 * base) attempts = 0;
    if (!reconnect || !isLost(code)) {
      say(`closed: ${code} ${reason}`.trimEnd());
      return show("ended");
    }
    if (state === "open") say("connection lost, connecting again");
    timer = setTimeout(connect, Math.random() * Math.min(max, base * 2 ** ++attempts));
    show("waiting");
  };

  const dial = async (mine: number) => {
    const to = new URL(url, (globalThis.document as Document | undefined)?.baseURI);
    to.protocol = to.protocol.replace("http", "ws");
    const value = await token?.();
    if (mine !== turn) return;
    if (value) to.searchParams.set("access_token", value);
    const next = (socket = new Socket(to));
    next.binaryType = "arraybuffer";
    agreed = undefined;
    next.onopen = () => {
      opened = Date.now();
      // What the one before has left on the screen, its modes above all, is not this program's.
      if (attempts) terminal.reset();
      resize();
      show("open");
    };
    // A character may begin in one message and end in the next: the terminal decodes.
    next.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => {
      const size = toldSize(data);
      if (!size) return terminal.write(typeof data === "string" ? data : new Uint8Array(data));
      // What came before was written for the size before.
      terminal.write("", () => {
        if (mine !== turn) return;
        agreed = size;
        agree();
      });
    };
    next.onclose = ({ code, reason }) => lost(code, reason);
  };

  function connect(): void {
    drop();
    const mine = turn;
    show("connecting");
    dial(mine).catch((error: unknown) => {
      if (mine === turn) lost(1006, String(error));
    });
  }

  const close = () => {
    if (state === "closed") return;
    drop();
    ended.abort();
    for (const listener of listeners) listener.dispose();
    show("closed");
  };

  const typed = (data: string, isBinary: boolean) => {
    if (readOnly) return;
    if (state === "ended") return connect();
    if (!isOpen()) return;
    for (const piece of pieces(data)) {
      waiting.push(isBinary ? Uint8Array.from(piece, (character) => character.charCodeAt(0)) : piece);
    }
    flush();
  };

  if (readOnly) terminal.options.disableStdin = true;
  const listeners = [
    terminal.onData((data) => typed(data, false)),
    // What is no text, such as old reports of the mouse: each character is an octet.
    terminal.onBinary((data) => typed(data, true)),
    terminal.onResize(resized),
    terminal.onTitleChange((text) => {
      if (title) title(text);
      else if (title !== false && (globalThis.document as Document | undefined)) document.title = text;
    }),
  ];
  const wake = () => {
    if (state === "waiting") connect();
  };
  const on = (target: Partial<EventTarget> | undefined, type: string, then: () => void) =>
    target?.addEventListener?.(type, then, { signal: ended.signal });
  on(globalThis, "online", wake);
  on(globalThis.document, "visibilitychange", () => document.visibilityState === "visible" && wake());
  on(signal, "abort", close);
  if (signal?.aborted) close();
  else connect();

  return {
    get state() {
      return state;
    },
    restart: () => {
      attempts = 1;
      if (state !== "closed") connect();
    },
    close,
  };
}
