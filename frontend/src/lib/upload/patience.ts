/** How to wait for better times: for the network, for a sign-in, and between attempts. */

import { ApiError } from '../api/errors';
import { isGone, isWorthRetrying } from './failures';
import type { SignInGate } from './gate';

/** Short at first, for a connection that just changed; then for a day, for the Wi-Fi of a hotel. */
export const RETRY_DELAYS_MS = [500, 1_000, 2_000, 5_000, 10_000, 20_000, ...Array<number>(2_880).fill(30_000)];

/** So long at most a browser is believed that says it is offline: the server may be on the same machine. */
const OFFLINE_MS = 30_000;

export class Patience {
  readonly #gate: SignInGate;
  readonly #online: () => Promise<unknown>;
  readonly #pause: (ms: number) => Promise<void>;
  #broken = false;

  constructor(gate: SignInGate, online: () => Promise<unknown> = browserIsOnline, pause = wait) {
    this.#gate = gate;
    this.#online = online;
    this.#pause = pause;
  }

  /** Resolves when a request has a chance. */
  async chance(): Promise<void> {
    if (this.#broken) await this.#online();
    await this.#gate.through();
  }

  /** A request was answered. */
  answered(status: number): void {
    this.#broken = false;
    if (status === 401) this.#gate.close();
  }

  /** A request got no answer. */
  broke(): void {
    this.#broken = true;
  }

  /** Attempt until it succeeds. Rejects with what will not pass by waiting, or the last error after a day. */
  async until<T>(attempt: () => Promise<T>): Promise<T> {
    for (const delay of RETRY_DELAYS_MS) {
      await this.chance();
      try {
        return await attempt();
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        if (error.code === 'network') this.broke();
        else this.answered(error.status);
        if (!isWorthRetrying(error) || isGone(error)) throw error;
        // After a 401 it is the gate that is waited for.
        if (error.status !== 401) await this.#pause(delay);
      }
    }
    return attempt();
  }
}

function browserIsOnline(): Promise<unknown> {
  if (navigator.onLine) return Promise.resolve();
  const listening = new AbortController();
  const online = new Promise((goOn) => window.addEventListener('online', goOn, { signal: listening.signal }));
  return Promise.race([online, wait(OFFLINE_MS)]).finally(() => listening.abort());
}

function wait(ms: number): Promise<void> {
  return new Promise((goOn) => setTimeout(goOn, ms));
}
