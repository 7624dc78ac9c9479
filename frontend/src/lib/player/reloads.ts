/**
 * Loads a broken playback again with a fresh grant: when, how often, and when that is left to the viewer.
 *
 * One reload at a time, waiting or under way. What passes by itself (no network, a server that restarts) is
 * counted and tried again; a video that is not playable again yet is asked for without limit.
 */

import { hasCode, isPassing } from '../api/errors';
import type { Playback } from '../api/types';
import { Recovery } from './recovery';

/** How often to ask while the next attempt of the encoder has nothing to show yet. */
const NOT_READY_MS = 10_000;

export interface ReloadOptions {
  renew: () => Promise<Playback>;
  /** Never rejects; a failure comes back through `failed`. */
  load: (playback: Playback) => Promise<void>;
  positionSeconds: () => number;
  /** Called with the error that no further reload is under way for. */
  onGiveUp: (error: unknown) => void;
  /** Where `online` is dispatched: the window. */
  network: EventTarget;
}

type State = 'idle' | 'waiting' | 'renewing' | 'given_up' | 'stopped';

export class Reloads {
  readonly #options: ReloadOptions;
  readonly #recovery = new Recovery();
  readonly #online = () => this.#backOnline();
  #state: State = 'idle';
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(options: ReloadOptions) {
    this.#options = options;
    options.network.addEventListener('online', this.#online);
  }

  /** The playback has failed with `error`: load it again after a while, or give up. */
  failed(error: unknown): void {
    if (this.#state === 'waiting' || this.#state === 'renewing') return;
    this.#later(error);
  }

  /** Another load begins, which takes the place of what waits here. */
  superseded(): void {
    if (this.#state !== 'waiting' && this.#state !== 'given_up') return;
    clearTimeout(this.#timer);
    this.#state = 'idle';
  }

  /** Begin again at once, as if nothing had failed before. */
  async now(): Promise<void> {
    if (this.#state === 'renewing' || this.#state === 'stopped') return;
    this.#recovery.reset();
    await this.#renewAndLoad();
  }

  stop(): void {
    this.#state = 'stopped';
    clearTimeout(this.#timer);
    this.#options.network.removeEventListener('online', this.#online);
  }

  #later(error: unknown): void {
    if (this.#state === 'stopped') return;
    const wait = hasCode(error, 'not_ready') ? NOT_READY_MS : this.#recovery.next(this.#options.positionSeconds());
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
      if (isPassing(error) || hasCode(error, 'not_ready')) {
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

  /** Asked after an await, where the compiler would hold on to the state from before. */
  get #stopped(): boolean {
    return this.#state === 'stopped';
  }
}
