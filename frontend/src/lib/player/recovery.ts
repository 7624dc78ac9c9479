/** How long to wait before a broken playback is loaded again, and when to leave that to the viewer. */

const FIRST_MS = 500;
const SLOWEST_MS = 10_000;
const MOST_IN_A_ROW = 8;
/** Playback that went on for so long since the last failure counts as recovered. */
const RECOVERED_SECONDS = 5;

export class Recovery {
  #failures = 0;
  #lastPosition = 0;

  /** Milliseconds to wait before the next try, null when it is time to give up. */
  next(positionSeconds: number): number | null {
    if (Math.abs(positionSeconds - this.#lastPosition) >= RECOVERED_SECONDS) this.#failures = 0;
    this.#lastPosition = positionSeconds;
    this.#failures += 1;
    if (this.#failures > MOST_IN_A_ROW) return null;
    return Math.min(SLOWEST_MS, FIRST_MS * 2 ** (this.#failures - 1));
  }

  reset(): void {
    this.#failures = 0;
  }
}
