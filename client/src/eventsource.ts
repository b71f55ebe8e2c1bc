import type { Transport } from "./types.js";

/** The EventSource of the browser. Of the failures it tells nothing but that they are. */
export const eventsource: Transport = (options) => {
  const Source = options.EventSource ?? globalThis.EventSource;
  return (
    Source &&
    ((url, sink) => {
      const source = new Source(url, { withCredentials: options.credentials });
      const listener = ({ type, data, lastEventId }: Event & { data?: string; lastEventId?: string }) => {
        // A message may have been published with a name that the EventSource uses itself.
        if (data !== undefined) {
          if (type === "gap") sink.gap(Number(data), lastEventId);
          else sink.message(data, lastEventId, type === "message" ? {} : { name: type });
        } else if (type === "open") sink.open();
        else {
          // It would come back by itself, but all of them at the same time.
          source.close();
          sink.end({});
        }
      };
      for (const type of ["open", "error", "message", "gap", ...(options.events ?? [])]) {
        source.addEventListener(type, listener);
      }
      return () => source.close();
    })
  );
};
