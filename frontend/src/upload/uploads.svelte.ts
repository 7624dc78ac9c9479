/**
 * The state of uploads that pages show, and Uppy's panel, which stays alive while other pages are open.
 *
 * Uppy is large, so it is loaded when the panel is first shown.
 */

import type { Api } from '../api/client';
import type { SignInGate } from '../session/gate';
import { RetryPolicy } from './retrying';
import type { Failed, Uploaded } from './sending';
import { SpeedMeter } from './speed';

const TICK_MS = 1_000;

export class Uploads {
  /** Files are being sent or are waiting to be. */
  busy = $state(false);
  /** The user has paused every file. */
  paused = $state(false);
  /** The connection is failing. Uploads resume when it is back. */
  interrupted = $state(false);
  /** null while unknown. */
  bytesPerSecond = $state<number | null>(null);
  uploaded = $state.raw<Uploaded[]>([]);
  failed = $state.raw<Failed[]>([]);
  /** From a guest to the owner. */
  note = $state('');

  readonly #api: Api;
  readonly #gate: SignInGate;
  readonly #onUploaded: () => void;
  #panel: Promise<HTMLElement> | null = null;
  #sentBytes = 0;
  #ticking: ReturnType<typeof setInterval> | undefined;

  constructor(api: Api, gate: SignInGate, onUploaded: () => void) {
    this.#api = api;
    this.#gate = gate;
    this.#onUploaded = onUploaded;
  }

  /** Return the element with Uppy's panel. Rejects when it cannot be loaded; the next call tries again. */
  async panel(): Promise<HTMLElement> {
    this.#panel ??= import('./uppy').then(({ createPanel }) =>
      createPanel(this.#api, new RetryPolicy(this.#gate), {
        onBusy: (busy) => this.#set(busy, this.paused),
        onPaused: (paused) => this.#set(this.busy, paused),
        onSent: (bytes) => {
          this.#sentBytes += bytes;
          this.interrupted = false;
        },
        note: () => this.note.trim(),
        onTrouble: () => (this.interrupted = true),
        onUploaded: (video) => {
          this.uploaded = [video, ...this.uploaded.filter((other) => other.id !== video.id)];
          this.#onUploaded();
        },
        onFailed: (failed) => {
          if (failed.length > 0 || this.failed.length > 0) this.failed = failed;
        },
      }),
    );
    try {
      return await this.#panel;
    } catch (error) {
      this.#panel = null;
      throw error;
    }
  }

  /** Forget what is done, because the user signed out. */
  forget(): void {
    this.uploaded = [];
  }

  #set(busy: boolean, paused: boolean): void {
    if (busy === this.busy && paused === this.paused) return;
    this.busy = busy;
    this.paused = paused;
    this.interrupted = false;
    this.bytesPerSecond = null;
    clearInterval(this.#ticking);
    if (!busy || paused) return;
    const meter = new SpeedMeter();
    meter.record(this.#sentBytes, performance.now());
    this.#ticking = setInterval(() => {
      meter.record(this.#sentBytes, performance.now());
      this.bytesPerSecond = meter.bytesPerSecond;
    }, TICK_MS);
  }
}
