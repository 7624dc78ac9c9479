/**
 * What the page shows of the uploads beside Uppy's own panel, and the panel itself, which outlives the pages that show
 * it.
 *
 * Uppy is large, and loaded when the panel is asked for the first time.
 */

import type { Api } from '../api/client';
import type { SignInGate } from './gate';
import { Patience } from './patience';
import { SpeedMeter } from './speed';

/** A video that this page has uploaded. */
export interface Uploaded {
  id: string;
  title: string;
}

/** A file that will not arrive unless somebody does something about it. */
export interface Failed {
  id: string;
  name: string;
  reason: string;
}

/** What Uppy's side tells. */
export interface UploadReport {
  /** Files are being sent, or wait for it. */
  onBusy: (busy: boolean) => void;
  /** Whether somebody has stopped all that would be sent. */
  onPaused: (paused: boolean) => void;
  onSent: (bytes: number) => void;
  /** A request failed, and is repeated later. */
  onTrouble: () => void;
  onUploaded: (video: Uploaded) => void;
  /** All that are in the panel now. */
  onFailed: (failed: Failed[]) => void;
}

const TICK_MS = 1_000;

export class Uploads {
  busy = $state(false);
  paused = $state(false);
  /** The connection fails; uploads go on when it is back. */
  interrupted = $state(false);
  /** null while nothing can be said. */
  bytesPerSecond = $state<number | null>(null);
  uploaded = $state.raw<Uploaded[]>([]);
  failed = $state.raw<Failed[]>([]);

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

  /** The element with Uppy's panel. Rejects when it cannot be loaded; the next call tries again. */
  async panel(): Promise<HTMLElement> {
    this.#panel ??= import('./uppy').then(({ createPanel }) =>
      createPanel(this.#api, new Patience(this.#gate), {
        onBusy: (busy) => this.#set(busy, this.paused),
        onPaused: (paused) => this.#set(this.busy, paused),
        onSent: (bytes) => {
          this.#sentBytes += bytes;
          this.interrupted = false;
        },
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
