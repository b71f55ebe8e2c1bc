/**
 * Ids of messages: `epoch:offset`, of several channels joined by commas. The epoch tells which channel it is, the offset counts its
 * messages by one without holes. A position in many channels is another string, which only the server can read.
 */

/** Epochs that are remembered, so that what comes late of a channel that was replaced is known to be old. */
const MOST_EPOCHS = 64;

/** The offsets by epoch; undefined if only the server can read it. */
export function parse(id: string): [epoch: string, offset: number][] | undefined {
  if (!/^\d/.test(id)) return undefined;
  return id.split(",").map((one) => {
    const [epoch = "", offset] = one.split(":");
    return [epoch, Number(offset)];
  });
}

/** What has been received. */
export class Received {
  /** The last position; what to come back with. */
  id: string | undefined;
  readonly offsets = new Map<string, number>();

  /**
   * Takes the id of a message. Returns how many messages were skipped before it, which is 0 but where some were neither delivered
   * nor told of; -1 if the message is one that was received before.
   */
  take(id: string): number {
    const parts = parse(id);
    let skipped = parts ? -1 : 0;
    for (const [epoch, offset] of parts ?? []) {
      // Nothing is known before the first position, and of a channel that has taken the place of another one.
      const more = offset - (this.offsets.get(epoch) ?? offset - 1);
      if (more > 0) skipped = Math.max(skipped, 0) + more - 1;
    }
    if (skipped >= 0) this.move(id);
    return skipped;
  }

  /** Goes to a position without a message; never back. */
  move(id: string): void {
    const { offsets } = this;
    this.id =
      parse(id)
        ?.map(([epoch, offset]) => {
          const most = Math.max(offset, offsets.get(epoch) ?? 0);
          offsets.delete(epoch);
          offsets.set(epoch, most);
          return `${epoch}:${most}`;
        })
        .join() ?? id;
    for (const epoch of offsets.keys()) if (offsets.size > MOST_EPOCHS) offsets.delete(epoch);
  }
}
