/** When to send a request: after the network is back, after a sign-in, and with growing pauses between attempts. */

import { ApiError, isGone } from '../api/errors';
import type { SignInGate } from '../session/gate';
import { isRetryable } from './failures';

/** Short at first, for a connection that just changed. Then every 30 seconds for a day, to survive a night offline. */
export const RETRY_DELAYS_MS = [500, 1_000, 2_000, 5_000, 10_000, 20_000, ...Array<number>(2_880).fill(30_000)];

/** How long to believe a browser that says it is offline. The server may run on the same machine. */
const OFFLINE_MS = 30_000;

export class RetryPolicy {
  readonly #gate: SignInGate;
  readonly #online: () => Promise<unknown>;
  readonly #pause: (ms: number) => Promise<void>;
  #lastUnanswered = false;

  constructor(gate: SignInGate, online: () => Promise<unknown> = browserIsOnline, pause = wait) {
    this.#gate = gate;
    this.#online = online;
    this.#pause = pause;
  }

  /** Resolves when a request may be sent. */
  async ready(): Promise<void> {
    if (this.#lastUnanswered) await this.#online();
    await this.#gate.through();
  }

  /** Note that a request was answered. */
  answered(status: number): void {
    this.#lastUnanswered = false;
    if (status === 401) this.#gate.close();
  }

  /** Note that a request got no response. */
  unanswered(): void {
    this.#lastUnanswered = true;
  }

  /** Call `attempt` until it succeeds. Rejects with the first error that is final, or after a day with the last one. */
  async retry<T>(attempt: () => Promise<T>): Promise<T> {
    for (const delay of RETRY_DELAYS_MS) {
      await this.ready();
      try {
        return await attempt();
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        if (error.code === 'network') this.unanswered();
        else this.answered(error.status);
        if (!isRetryable(error) || isGone(error)) throw error;
        // After a 401 the gate does the waiting.
        if (error.status !== 401) await this.#pause(delay);
      }
    }
    return attempt();
  }
}

function browserIsOnline(): Promise<unknown> {
  if (navigator.onLine) return Promise.resolve();
  const listening = new AbortController();
  const online = new Promise((resolve) => window.addEventListener('online', resolve, { signal: listening.signal }));
  return Promise.race([online, wait(OFFLINE_MS)]).finally(() => listening.abort());
}

function wait(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
