/** How to wait for better times: for the network, for a sign-in, and between attempts. */

import { ApiError, isPassing } from '../api/errors';
import type { SignInGate } from './gate';

/** Short at first, for a connection that just changed; then for a day, for the Wi-Fi of a hotel. */
export const RETRY_DELAYS_MS = [500, 1_000, 2_000, 5_000, 10_000, 20_000, ...Array<number>(2_880).fill(30_000)];

export class Patience {
  readonly #gate: SignInGate;
  readonly #online: () => Promise<void>;
  readonly #pause: (ms: number) => Promise<void>;

  constructor(gate: SignInGate, online: () => Promise<void> = browserIsOnline, pause = wait) {
    this.#gate = gate;
    this.#online = online;
    this.#pause = pause;
  }

  /** Resolves when a request has a chance. */
  async chance(): Promise<void> {
    await this.#online();
    await this.#gate.through();
  }

  refused(): void {
    this.#gate.close();
  }

  /** Attempt until it succeeds. Rejects with what will not pass by waiting, or the last error after a day. */
  async until<T>(attempt: () => Promise<T>): Promise<T> {
    for (const delay of RETRY_DELAYS_MS) {
      await this.chance();
      try {
        return await attempt();
      } catch (error) {
        if (error instanceof ApiError && error.status === 401) this.refused();
        else if (isPassing(error) || (error instanceof ApiError && error.status === 423)) await this.#pause(delay);
        else throw error;
      }
    }
    return attempt();
  }
}

async function browserIsOnline(): Promise<void> {
  while (!navigator.onLine) {
    await new Promise((goOn) => window.addEventListener('online', goOn, { once: true }));
  }
}

function wait(ms: number): Promise<void> {
  return new Promise((goOn) => setTimeout(goOn, ms));
}
