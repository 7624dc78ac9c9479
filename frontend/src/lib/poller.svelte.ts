/** Ask for a video's status until it is final: quickly at first, more slowly while nothing changes. */

import { ApiError } from './api/errors';
import type { Status } from './api/types';

const FASTEST_MS = 1_000;
const STEADY_MS = 2_000;
const SLOWEST_MS = 15_000;
const GROWTH = 1.5;

export class StatusPoller {
  status = $state.raw<Status | null>(null);
  /** The last request's failure, null after a success. */
  error = $state.raw<unknown>(null);

  readonly #load: () => Promise<Status>;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #waitMs = FASTEST_MS;
  #running = false;

  constructor(load: () => Promise<Status>) {
    this.#load = load;
  }

  get finished(): boolean {
    return this.status !== null && isFinal(this.status);
  }

  /** Begin at once; returns its own undo. */
  start(): () => void {
    this.#running = true;
    this.#waitMs = FASTEST_MS;
    void this.#ask();
    return () => {
      this.#running = false;
      clearTimeout(this.#timer);
    };
  }

  async #ask(): Promise<void> {
    try {
      const status = await this.#load();
      if (!this.#running) return;
      const moved = status.progress !== this.status?.progress || status.stage !== this.status.stage;
      this.status = status;
      this.error = null;
      // Status changes at most every 2 s; there is no use in asking more often for long.
      this.#waitMs = moved ? FASTEST_MS : Math.min(STEADY_MS, this.#waitMs * GROWTH);
      if (isFinal(status)) return;
    } catch (error) {
      if (!this.#running) return;
      this.error = error;
      if (error instanceof ApiError && (error.status === 404 || error.status === 401)) return;
      this.#waitMs = Math.min(SLOWEST_MS, Math.max(STEADY_MS, this.#waitMs * 2));
    }
    this.#timer = setTimeout(() => void this.#ask(), this.#waitMs);
  }
}

export function isFinal(status: Status): boolean {
  return status.status === 'done' || status.status === 'error';
}
