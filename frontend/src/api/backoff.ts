const FIRST_MS = 2_000;
const LONGEST_MS = 15_000;

/** Milliseconds to wait after a failure, given the last wait. */
export function backOff(waitMs: number, longestMs = LONGEST_MS): number {
  return Math.min(longestMs, Math.max(FIRST_MS, waitMs * 2));
}
