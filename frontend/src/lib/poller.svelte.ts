/** Ask for a video's status until it is final: quickly at first, more slowly while nothing changes. */

import { ApiError } from './api/errors';
import type { Status } from './api/types';

const FASTEST_MS = 1_000;
const STEADY_MS = 2_000;
const SLOWEST_MS = 15_000;
const GROWTH = 1.5;

/** One loop of requests: what its undo ends, and nothing else. */
interface Run {
  ended: boolean;
  waitMs: number;
  timer: ReturnType<typeof setTimeout> | undefined;
}

export class StatusPoller {
  status = $state.raw<Status | null>(null);
  /** The last request's failure, null after a success. */
  error = $state.raw<unknown>(null);

  readonly #load: () => Promise<Status>;
  #run: Run | undefined;

  constructor(load: () => Promise<Status>) {
    this.#load = load;
  }

  get finished(): boolean {
    return this.status !== null && isFinal(this.status);
  }

  /** Begin at once, in place of an earlier start; returns its own undo. */
  start(): () => void {
    if (this.#run !== undefined) end(this.#run);
    const run: Run = { ended: false, waitMs: FASTEST_MS, timer: undefined };
    this.#run = run;
    void this.#ask(run);
    return () => end(run);
  }

  async #ask(run: Run): Promise<void> {
    try {
      const status = await this.#load();
      if (run.ended) return;
      const moved = status.progress !== this.status?.progress || status.stage !== this.status.stage;
      this.status = status;
      this.error = null;
      // Status changes at most every 2 s; there is no use in asking more often for long.
      run.waitMs = moved ? FASTEST_MS : Math.min(STEADY_MS, run.waitMs * GROWTH);
      if (isFinal(status)) return;
    } catch (error) {
      if (run.ended) return;
      this.error = error;
      if (error instanceof ApiError && (error.status === 404 || error.status === 401)) return;
      run.waitMs = backOff(run.waitMs);
    }
    run.timer = setTimeout(() => void this.#ask(run), run.waitMs);
  }
}

function end(run: Run): void {
  run.ended = true;
  clearTimeout(run.timer);
}

/** Milliseconds to wait after a failure, given those waited before. */
export function backOff(waitMs: number): number {
  return Math.min(SLOWEST_MS, Math.max(STEADY_MS, waitMs * 2));
}

export function isFinal(status: Status): boolean {
  return status.status === 'done' || status.status === 'error';
}
