/**
 * Polls a video's status until it is final: fast until it can be played, more slowly while nothing changes, and seldom
 * while the server pushes it.
 */

import { backOff } from '../api/backoff';
import { ApiError } from '../api/errors';
import type { Status } from '../api/types';

/** While a viewer waits for the first frame. */
const EAGER_MS = 150;
/** About 15 s. After that, the video is probably waiting for a worker. */
const EAGER_POLLS = 100;
const FASTEST_MS = 1_000;
const STEADY_MS = 2_000;
const LIVE_MS = 60_000;
const GROWTH = 1.5;

/** One polling loop. Its undo ends this loop and no other. */
interface Run {
  ended: boolean;
  polls: number;
  /** Counts requests and pushes. Only the last one counts. */
  turn: number;
  waitMs: number;
  timer: ReturnType<typeof setTimeout> | undefined;
}

export class StatusPoller {
  status = $state.raw<Status | null>(null);
  /** The last request's error, or null after a success. */
  error = $state.raw<unknown>(null);

  readonly #load: (pushed?: Status) => Promise<Status>;
  readonly #isLive: () => boolean;
  #run: Run | undefined;

  /** `load` asks for the status, unless it gets one that the server has pushed. */
  constructor(load: (pushed?: Status) => Promise<Status>, isLive = () => false) {
    this.#load = load;
    this.#isLive = isLive;
  }

  /** Start polling at once and end any earlier loop; returns its own undo. */
  start(): () => void {
    if (this.#run !== undefined) end(this.#run);
    const run: Run = { ended: false, polls: 0, turn: 0, waitMs: FASTEST_MS, timer: undefined };
    this.#run = run;
    void this.#poll(run);
    return () => end(run);
  }

  /** Take what the server has pushed, or ask now. */
  look(pushed?: Status): void {
    const run = this.#run;
    if (run === undefined || run.ended) return;
    clearTimeout(run.timer);
    void this.#poll(run, pushed);
  }

  async #poll(run: Run, pushed?: Status): Promise<void> {
    run.polls += 1;
    const turn = (run.turn += 1);
    try {
      const status = await this.#load(pushed);
      if (run.ended || turn !== run.turn) return;
      const changed = status.progress !== this.status?.progress || status.stage !== this.status.stage;
      this.status = status;
      this.error = null;
      // Progress changes at most every 2 s, so polling faster for long is no use.
      if (this.#isLive()) run.waitMs = LIVE_MS;
      else if (!status.playable && run.polls <= EAGER_POLLS) run.waitMs = EAGER_MS;
      else run.waitMs = changed ? FASTEST_MS : Math.min(STEADY_MS, Math.max(FASTEST_MS, run.waitMs * GROWTH));
      if (isFinal(status)) return;
    } catch (error) {
      if (run.ended || turn !== run.turn) return;
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

function isFinal(status: Status): boolean {
  // The removed qualities of a reduced video are about to be made again.
  return (status.status === 'done' && !status.reduced) || status.status === 'error';
}
