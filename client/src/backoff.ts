/** Milliseconds until the next attempt: at random between nothing and a time that doubles ("full jitter"). */
export function delay(attempt: number, base: number, max: number): number {
  return Math.random() * Math.min(max, base * 2 ** attempt);
}

/** The value of `Retry-After` (RFC 9110, section 10.2.3) in milliseconds. */
export function retryAfter(value: string | null): number | undefined {
  // Neither null nor a date is a number of seconds.
  const time = Number(value) * 1000 || Date.parse(value ?? "") - Date.now();
  return time > 0 ? time : undefined;
}
