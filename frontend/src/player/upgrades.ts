/**
 * Replaces the first look, or the download of a reduced video, by the video's higher qualities once these are ready: when the viewer asks for it, and otherwise
 * at the next pause or seek, where a reload does not show. Never while the video plays.
 */

import type { Playback } from '../api/types';

/** Events at which the viewer expects the picture to stop. */
const BREAKS = ['pause', 'seeking'] as const;

interface UpgradeOptions {
  video: EventTarget & Pick<HTMLVideoElement, 'ended' | 'paused'>;
  /** Whether the viewer is moving the seek bar. */
  isDragging: () => boolean;
  load: (playback: Playback) => Promise<void>;
  /** Called with whether a higher quality is ready and not loaded yet. */
  onBetter: (isReady: boolean) => void;
}

export class Upgrades {
  readonly #options: UpgradeOptions;
  readonly #atBreak = () => this.#tryNow();
  #loaded: Playback | null = null;
  #newest: Playback | null = null;

  constructor(options: UpgradeOptions) {
    this.#options = options;
    for (const event of BREAKS) options.video.addEventListener(event, this.#atBreak);
  }

  /** A load of this playback begins. */
  loading(playback: Playback): void {
    this.#loaded = playback;
    this.#options.onBetter(this.#isReady);
  }

  /** Take a newer playback. */
  update(playback: Playback): void {
    this.#newest = playback;
    this.#options.onBetter(this.#isReady);
    if (this.#options.video.paused) this.#tryNow();
  }

  /** Load the higher quality at once, as the viewer wants. */
  async now(): Promise<void> {
    if (this.#isReady && this.#newest !== null) await this.#options.load(this.#newest);
  }

  stop(): void {
    for (const event of BREAKS) this.#options.video.removeEventListener(event, this.#atBreak);
  }

  #tryNow(): void {
    // Shaka's seek bar pauses and seeks while it is dragged. At the end, a reload would step back to the last frame.
    if (!this.#options.isDragging() && !this.#options.video.ended) void this.now();
  }

  get #isReady(): boolean {
    const loaded = this.#loaded?.presentation;
    return (loaded === 'first_look' || loaded === 'reduced') && this.#newest?.presentation === 'complete';
  }
}
