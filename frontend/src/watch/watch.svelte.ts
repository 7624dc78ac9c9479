/** The state of one watch page: the video, its status during encoding, and its playback URLs. */

import type { Api } from '../api/client';
import { hasCode, isTransient } from '../api/errors';
import type { Playback, Status, VideoChange, VideoDetails } from '../api/types';
import { backOff, StatusPoller } from './poller.svelte';

/** How often to check whether the video is playable, for guests who may not read its status. */
const GUEST_RETRY_MS = 4_000;
/** How often to check, for a guest already watching, whether encoding has finished. */
const GUEST_FOLLOW_MS = 10_000;

export class Watch {
  readonly id: string;
  /** null while loading, and for guests, who may not read it. */
  video = $state.raw<VideoDetails | null>(null);
  playback = $state.raw<Playback | null>(null);
  /** Incremented when a running player should reload. */
  revision = $state(0);
  /** The viewer is not signed in. The video may still be public. */
  guest = $state(false);
  /** A guest is waiting for a public video that is not playable yet. */
  waiting = $state(false);
  /** Why the video cannot be shown. */
  problem = $state.raw<unknown>(null);
  /** Why opening the video takes longer: the request failed and will be retried. */
  trouble = $state.raw<unknown>(null);

  readonly #api: Api;
  readonly #poller: StatusPoller;
  /** Aborted when the latest `start` is undone. */
  #ended: AbortSignal = AbortSignal.abort();

  constructor(api: Api, id: string) {
    this.#api = api;
    this.id = id;
    this.#poller = new StatusPoller(() => this.#loadStatus());
  }

  get status(): Status | null {
    return this.#poller.status ?? this.video?.status ?? null;
  }

  /** The last poll failed. Polling continues. */
  get interrupted(): boolean {
    return this.#poller.error !== null;
  }

  /** Load the video and follow its encoding; returns its own undo. */
  start(): () => void {
    const ended = new AbortController();
    this.problem = null;
    this.trouble = null;
    this.waiting = false;
    this.#ended = ended.signal;
    void this.#open(ended.signal);
    return () => ended.abort();
  }

  /** Get a fresh grant, for example after the player's has expired. */
  async renew(): Promise<Playback> {
    this.playback = await this.#api.playback(this.id, this.guest);
    return this.playback;
  }

  async change(change: VideoChange): Promise<void> {
    await this.#api.change(this.id, change);
    if (this.video !== null) this.video = { ...this.video, ...change };
  }

  /** Encode the video again and follow its progress. */
  async retranscode(): Promise<void> {
    const ended = this.#ended;
    try {
      await this.#api.retranscode(this.id);
    } catch (error) {
      // It was already queued, perhaps from another page. Follow that.
      if (!hasCode(error, 'already_queued')) throw error;
    }
    if (ended.aborted) return;
    // The failed attempt's output is gone.
    this.playback = null;
    this.#follow(ended);
  }

  /** Reload the player after captions changed. During encoding they are not in the playlists yet. */
  async captionsChanged(): Promise<void> {
    if (this.playback === null || this.status?.status !== 'done') return;
    try {
      await this.renew();
    } catch {
      return; // the player keeps the captions it has
    }
    this.revision += 1;
  }

  async #open(ended: AbortSignal, waitedMs = 0): Promise<void> {
    try {
      const video = await this.#api.video(this.id, true);
      if (ended.aborted) return;
      this.video = video;
    } catch (error) {
      if (ended.aborted) return;
      if (hasCode(error, 'unauthorized')) await this.#openAsGuest(ended);
      else if (isTransient(error)) this.#openLater(error, waitedMs, (waitMs) => this.#open(ended, waitMs), ended);
      else this.problem = error;
      return;
    }
    this.guest = false;
    this.trouble = null;
    this.#follow(ended);
  }

  #follow(ended: AbortSignal): void {
    ended.addEventListener('abort', this.#poller.start());
  }

  async #openAsGuest(ended: AbortSignal, waitedMs = 0): Promise<void> {
    this.guest = true;
    try {
      await this.renew();
      if (ended.aborted) return;
      this.waiting = false;
      this.trouble = null;
      this.#followAsGuest(ended);
    } catch (error) {
      if (ended.aborted) return;
      if (hasCode(error, 'not_ready')) {
        this.waiting = true;
        this.trouble = null;
        setTimeout(() => {
          if (!ended.aborted) void this.#openAsGuest(ended);
        }, GUEST_RETRY_MS);
      } else if (isTransient(error)) {
        this.#openLater(error, waitedMs, (waitMs) => this.#openAsGuest(ended, waitMs), ended);
      } else {
        this.problem = error;
        if (hasCode(error, 'unauthorized')) this.#api.reportUnauthorized();
      }
    }
  }

  /** Check until the WebM exists. It is made last, so captions, chapters and previews exist by then. */
  #followAsGuest(ended: AbortSignal): void {
    if (this.playback?.webm !== null) return;
    setTimeout(() => void this.#pollAsGuest(ended), GUEST_FOLLOW_MS);
  }

  async #pollAsGuest(ended: AbortSignal): Promise<void> {
    if (ended.aborted) return;
    try {
      await this.renew();
    } catch (error) {
      // The player keeps playing, and reports it if it cannot.
      if (!isTransient(error) && !hasCode(error, 'not_ready')) return;
    }
    if (!ended.aborted) this.#followAsGuest(ended);
  }

  #openLater(error: unknown, waitedMs: number, open: (waitMs: number) => Promise<void>, ended: AbortSignal): void {
    this.trouble = error;
    const waitMs = backOff(waitedMs);
    setTimeout(() => {
      if (!ended.aborted) void open(waitMs);
    }, waitMs);
  }

  async #loadStatus(): Promise<Status> {
    const before = this.#poller.status;
    const status = await this.#api.status(this.id);
    const canPlay = status.playable || status.status === 'done';
    // Renew once more at the end, for the download that exists only then. The player keeps playing.
    const justFinished = status.status === 'done' && before?.status !== 'done';
    if (canPlay && (this.playback === null || justFinished)) {
      try {
        await this.renew();
      } catch (error) {
        if (!hasCode(error, 'not_ready')) throw error;
      }
    }
    // The description of the original file is available once encoding has finished.
    if (status.status === 'done' && this.video !== null && this.video.status.status !== 'done') {
      this.video = await this.#api.video(this.id);
    }
    return status;
  }
}
