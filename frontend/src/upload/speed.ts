/** Transfer speed, averaged over the last few seconds. */

const WINDOW_MS = 8_000;
const SETTLE_MS = 800;

export class SpeedMeter {
  #samples: { atMs: number; bytes: number }[] = [];

  /** `bytes` is the total sent so far. */
  record(bytes: number, nowMs: number): void {
    this.#samples.push({ atMs: nowMs, bytes });
    // Keep one sample older than the window, so that the samples always span all of it.
    while (this.#samples.length > 2 && this.#samples[1]!.atMs <= nowMs - WINDOW_MS) this.#samples.shift();
  }

  /** null until there are enough samples. */
  get bytesPerSecond(): number | null {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined || last.atMs - first.atMs < SETTLE_MS) return null;
    return ((last.bytes - first.bytes) * 1000) / (last.atMs - first.atMs);
  }
}
