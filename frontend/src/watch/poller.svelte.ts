/** Polls a video's status until it is final: fast until it can be played, more slowly while nothing changes. */

import { ApiError } from '../api/errors';
import type { Status } from '../api/types';

/** While a viewer waits for the first frame. */
const EAGER_MS = 150;
/** About 15 s. After that, the video is probably waiting for a worker. */
const EAGER_POLLS = 100;
const FASTEST_MS = 1_000;
const STEADY_MS = 2_000;
const SLOWEST_MS = 15_000;
const GROWTH = 1.5;

/** One polling loop. Its undo ends this loop and no other. */
interface Run {
  ended: boolean;
  polls: number;
  waitMs: number;
  timer: ReturnType<typeof setTimeout> | undefined;
}

export class StatusPoller {
  status = $state.raw<Status | null>(null);
  /** The last request's error, or null after a success. */
  error = $state.raw<unknown>(null);

  readonly #load: () => Promise<Status>;
  #run: Run | undefined;

  constructor(load: () => Promise<Status>) {
    this.#load = load;
  }

  /** Start polling at once and end any earlier loop; returns its own undo. */
  start(): () => void {
    if (this.#run !== undefined) end(this.#run);
    const run: Run = { ended: false, polls: 0, waitMs: FASTEST_MS, timer: undefined };
    this.#run = run;
    void this.#poll(run);
    return () => end(run);
  }

  async #poll(run: Run): Promise<void> {
    run.polls += 1;
    try {
      const status = await this.#load();
      if (run.ended) return;
      const changed = status.progress !== this.status?.progress || status.stage !== this.status.stage;
      this.status = status;
      this.error = null;
      // Progress changes at most every 2 s, so polling faster for long is no use.
      if (!status.playable && run.polls <= EAGER_POLLS) run.waitMs = EAGER_MS;
      else run.waitMs = changed ? FASTEST_MS : Math.min(STEADY_MS, Math.max(FASTEST_MS, run.waitMs * GROWTH));
      if (isFinal(status)) return;
    } catch (error) {
      if (run.ended) return;
      this.error = error;
      if (error instanceof ApiError && (error.status === 404 || error.status === 401)) return;
      run.waitMs = backOff(run.waitMs);
    }
    run.timer = setTimeout(() => void this.#poll(run), run.waitMs);
  }
}

function end(run: Run): void {
  run.ended = true;
  clearTimeout(run.timer);
}

/** Milliseconds to wait after a failure, given the last wait. */
export function backOff(waitMs: number): number {
  return Math.min(SLOWEST_MS, Math.max(STEADY_MS, waitMs * 2));
}

function isFinal(status: Status): boolean {
  // The removed qualities of a reduced video are about to be made again.
  return (status.status === 'done' && !status.reduced) || status.status === 'error';
}
