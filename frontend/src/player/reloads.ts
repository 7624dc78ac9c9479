/**
 * Reloads a failed playback with a fresh grant: decides when, how often, and when to leave it to the viewer.
 *
 * Only one reload waits or runs at a time. Temporary failures (no network, a server that restarts) are retried a limited
 * number of times. A video that is not playable yet is asked for without limit.
 */

import { hasCode, isTransient } from '../api/errors';
import type { Playback } from '../api/types';

/** How often to ask while a restarted encoding has nothing to show yet. */
const NOT_READY_MS = 10_000;
const FIRST_MS = 500;
const SLOWEST_MS = 10_000;
const MAX_FAILURES = 8;
/** Playback that advanced this far since the last failure counts as recovered. */
const RECOVERED_SECONDS = 5;

interface ReloadOptions {
  renew: () => Promise<Playback>;
  /** Never rejects. It reports a failure through `failed`. */
  load: (playback: Playback) => Promise<void>;
  positionSeconds: () => number;
  /** Called with the error when no further reload will be tried. */
  onGiveUp: (error: unknown) => void;
  /** Where `online` is dispatched: the window. */
  network: EventTarget;
}

type State = 'idle' | 'waiting' | 'renewing' | 'given_up' | 'stopped';

export class Reloads {
  readonly #options: ReloadOptions;
  readonly #backOff = new BackOff();
  readonly #online = () => this.#backOnline();
  #state: State = 'idle';
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(options: ReloadOptions) {
    this.#options = options;
    options.network.addEventListener('online', this.#online);
  }

  /** Playback failed with `error`: reload it after a while, or give up. */
  failed(error: unknown): void {
    if (this.#state === 'waiting' || this.#state === 'renewing') return;
    this.#later(error);
  }

  /** Cancel a waiting reload, because another load begins. */
  superseded(): void {
    if (this.#state !== 'waiting' && this.#state !== 'given_up') return;
    clearTimeout(this.#timer);
    this.#state = 'idle';
  }

  /** Reload at once and forget earlier failures. */
  async now(): Promise<void> {
    if (this.#state === 'renewing' || this.#state === 'stopped') return;
    this.#backOff.reset();
    await this.#renewAndLoad();
  }

  stop(): void {
    this.#state = 'stopped';
    clearTimeout(this.#timer);
    this.#options.network.removeEventListener('online', this.#online);
  }

  #later(error: unknown): void {
    if (this.#state === 'stopped') return;
    const wait = hasCode(error, 'not_ready') ? NOT_READY_MS : this.#backOff.next(this.#options.positionSeconds());
    if (wait === null) {
      this.#state = 'given_up';
      this.#options.onGiveUp(error);
      return;
    }
    this.#state = 'waiting';
    this.#timer = setTimeout(() => void this.#renewAndLoad(), wait);
  }

  async #renewAndLoad(): Promise<void> {
    clearTimeout(this.#timer);
    this.#state = 'renewing';
    let playback: Playback;
    try {
      playback = await this.#options.renew();
    } catch (error) {
      if (isTransient(error) || hasCode(error, 'not_ready')) {
        this.#later(error);
      } else if (!this.#stopped) {
        this.#state = 'idle';
        this.#options.onGiveUp(error);
      }
      return;
    }
    if (this.#stopped) return;
    this.#state = 'idle';
    await this.#options.load(playback);
  }

  #backOnline(): void {
    if (this.#state === 'waiting' || this.#state === 'given_up') void this.now();
  }

  /** A getter, because after an await the compiler would still assume the state from before. */
  get #stopped(): boolean {
    return this.#state === 'stopped';
  }
}

/** How long to wait before each reload. */
export class BackOff {
  #failures = 0;
  #lastPosition = 0;

  /** Milliseconds to wait before the next attempt, or null to give up. */
  next(positionSeconds: number): number | null {
    if (Math.abs(positionSeconds - this.#lastPosition) >= RECOVERED_SECONDS) this.#failures = 0;
    this.#lastPosition = positionSeconds;
    this.#failures += 1;
    if (this.#failures > MAX_FAILURES) return null;
    return Math.min(SLOWEST_MS, FIRST_MS * 2 ** (this.#failures - 1));
  }

  reset(): void {
    this.#failures = 0;
  }
}
