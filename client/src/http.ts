import { retryAfter } from "./backoff.js";
import type { Data, Failure, Options, Sink, Transport } from "./types.js";

/** A request that fetch makes, with what the options say of all of them. */
export function request(url: URL, options: Options, more: RequestInit, headers: Record<string, string>): Promise<Response> {
  return (options.fetch ?? fetch)(url, {
    cache: "no-store",
    credentials: options.credentials ? "include" : "same-origin",
    ...more,
    headers: { ...options.headers, ...headers },
  });
}

/** What a response that is no success says. */
export function failure(response: Response): Failure {
  return { status: response.status, retryAfter: retryAfter(response.headers.get("retry-after")) };
}

/** A transport of requests by fetch, which are aborted by what it returns. */
function fetching(run: (url: URL, sink: Sink, get: (accept: string) => Promise<Response>) => Promise<Failure>): Transport {
  return (options) => (url, sink) => {
    const ended = new AbortController();
    const get = (accept: string) => request(url, options, { signal: ended.signal }, { accept });
    run(url, sink, get).then(sink.end, (cause: unknown) => sink.end({ cause }));
    return () => ended.abort();
  };
}

/** An event stream that is read by fetch: every event, the status, and the position at once. */
export const stream = fetching(async (_, sink, get) => {
  const response = await get("text/event-stream");
  if (!response.ok || !response.body) return failure(response);
  if (!response.headers.get("content-type")?.startsWith("text/event-stream")) return { reason: "no event stream" };
  sink.open();
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let data: string[] = [];
  let id = "";
  let name = "";
  for (;;) {
    const { done, value } = await reader.read();
    // An event that has no end is none.
    if (done) return {};
    // A CR at the end may be half of a line's end.
    const lines = (rest + decoder.decode(value, { stream: true })).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop() ?? "";
    sink.placed();
    for (const line of lines) {
      const [, field, content = ""] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
      if (field === "data") data.push(content);
      else if (field === "id") id = content;
      else if (field === "event") name = content;
      else if (!line) {
        if (!data.length) {
          sink.placed(id);
        } else if (name === "gap") sink.gap(Number(data[0]), id);
        else sink.message(data.join("\n"), id || undefined, name && name !== "message" ? { name } : {});
        data = [];
        name = "";
      }
    }
  }
});

/** Requests that are answered by one message each. */
export const longpoll = fetching(async (url, sink, get) => {
  // Until the first answer nobody knows whether there will be one: a server that does not refuse is taken for one that waits.
  const timer = setTimeout(() => sink.open(), 1000);
  try {
    for (;;) {
      const response = await get("*/*");
      const { status, headers } = response;
      // A weak tag is one of the same message; what compresses responses may have made it one.
      const id = headers.get("etag")?.replace(/^W\/|"|-gzip/g, "");
      // 408: it has waited for long enough, or its worker leaves; 304: there is nothing new, and the server does not wait.
      if ([408, 304, 204].includes(status)) {
        sink.placed(id);
        await new Promise((resolve) => setTimeout(resolve, 1000 * Math.random() + (status === 408 ? 0 : 2000)));
      } else if (status !== 200) return failure(response);
      else {
        const octets = await response.arrayBuffer();
        const contentType = headers.get("content-type") ?? undefined;
        const lost = headers.get("x-channel-gap");
        sink.message(text(octets, contentType), id, { contentType, lost: lost ? Number(lost) : undefined });
      }
      if (id) url.searchParams.set("last_event_id", id);
    }
  } finally {
    clearTimeout(timer);
  }
});

/** As a WebSocket would bring it: binary if it was published so or is no text. */
function text(octets: ArrayBuffer, contentType = ""): Data {
  if (contentType.startsWith("application/octet-stream")) return octets;
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(octets);
  } catch {
    return octets;
  }
}
