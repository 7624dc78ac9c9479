/** The rate of a transfer over its last seconds. */

const WINDOW_MS = 8_000;
const SETTLE_MS = 800;

export class SpeedMeter {
  #samples: { atMs: number; bytes: number }[] = [];

  /** `bytes` is all that was sent so far. */
  record(bytes: number, nowMs: number): void {
    this.#samples.push({ atMs: nowMs, bytes });
    // One sample older than the window stays, so that the window is always covered.
    while (this.#samples.length > 2 && this.#samples[1]!.atMs <= nowMs - WINDOW_MS) this.#samples.shift();
  }

  /** null until enough time has passed to tell. */
  get bytesPerSecond(): number | null {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined || last.atMs - first.atMs < SETTLE_MS) return null;
    return ((last.bytes - first.bytes) * 1000) / (last.atMs - first.atMs);
  }
}
