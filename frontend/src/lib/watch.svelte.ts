/** One video as its watch page sees it: record, status while it is encoded, and where to play it. */

import type { Api } from './api/client';
import { hasCode, isPassing } from './api/errors';
import type { Playback, Status, VideoChange, VideoDetails } from './api/types';
import { backOff, StatusPoller } from './poller.svelte';

/** How often a viewer without the right to read the status asks whether the video can be played. */
const GUEST_RETRY_MS = 4_000;
/** How often one who watches already asks for what is there only at the end. */
const GUEST_FOLLOW_MS = 10_000;

export class Watch {
  readonly id: string;
  /** null while loading, and for guests: the record is for those who are signed in. */
  video = $state.raw<VideoDetails | null>(null);
  playback = $state.raw<Playback | null>(null);
  /** Counts the changes of what is played that viewers who already watch should get as well. */
  edition = $state(0);
  /** Nobody is signed in; the video may be public all the same. */
  guest = $state(false);
  /** A guest looks at a public video that is not playable yet. */
  waiting = $state(false);
  /** Why there is nothing to show. */
  problem = $state.raw<unknown>(null);
  /** Why opening the video takes longer: the server did not answer, and is asked again. */
  trouble = $state.raw<unknown>(null);

  readonly #api: Api;
  readonly #poller: StatusPoller;
  /** Of the latest start. */
  #ended: AbortSignal = AbortSignal.abort();

  constructor(api: Api, id: string) {
    this.#api = api;
    this.id = id;
    this.#poller = new StatusPoller(() => this.#loadStatus());
  }

  get status(): Status | null {
    return this.#poller.status ?? this.video?.status ?? null;
  }

  /** The last poll failed; the next one is under way. */
  get interrupted(): boolean {
    return this.#poller.error !== null;
  }

  /** Load and follow the video; returns its own undo. */
  start(): () => void {
    const ended = new AbortController();
    this.problem = null;
    this.trouble = null;
    this.waiting = false;
    this.#ended = ended.signal;
    void this.#open(ended.signal);
    return () => ended.abort();
  }

  /** A fresh grant, for a player whose own has expired. */
  async renew(): Promise<Playback> {
    this.playback = await this.#api.playback(this.id, this.guest);
    return this.playback;
  }

  async change(change: VideoChange): Promise<void> {
    await this.#api.change(this.id, change);
    if (this.video !== null) this.video = { ...this.video, ...change };
  }

  async remove(): Promise<void> {
    await this.#api.remove(this.id);
  }

  /** Have the video encoded once more, and follow that. */
  async transcodeAgain(): Promise<void> {
    const ended = this.#ended;
    try {
      await this.#api.transcodeAgain(this.id);
    } catch (error) {
      // Somebody was quicker, on another page perhaps: there is as much to follow.
      if (!hasCode(error, 'already_queued')) throw error;
    }
    if (ended.aborted) return;
    // What the failed attempt had written so far is gone.
    this.playback = null;
    this.#follow(ended);
  }

  /** The captions have changed; those of a video that is still encoded are not in its playlists yet. */
  async captionsChanged(): Promise<void> {
    if (this.playback === null || this.status?.status !== 'done') return;
    try {
      await this.renew();
    } catch {
      return; // the player goes on with the captions that it has
    }
    this.edition += 1;
  }

  async #open(ended: AbortSignal, waitedMs = 0): Promise<void> {
    try {
      const video = await this.#api.video(this.id, true);
      if (ended.aborted) return;
      this.video = video;
    } catch (error) {
      if (ended.aborted) return;
      if (hasCode(error, 'unauthorized')) await this.#openAsGuest(ended);
      else if (isPassing(error)) this.#openLater(error, waitedMs, (waitMs) => this.#open(ended, waitMs), ended);
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
      } else if (isPassing(error)) {
        this.#openLater(error, waitedMs, (waitMs) => this.#openAsGuest(ended, waitMs), ended);
      } else {
        this.problem = error;
        if (hasCode(error, 'unauthorized')) this.#api.reportUnauthorized();
      }
    }
  }

  /** Ask on until the WebM is there, which is made last: with it come captions, chapters and previews. */
  #followAsGuest(ended: AbortSignal): void {
    if (this.playback?.webm !== null) return;
    setTimeout(() => void this.#askAsGuest(ended), GUEST_FOLLOW_MS);
  }

  async #askAsGuest(ended: AbortSignal): Promise<void> {
    if (ended.aborted) return;
    try {
      await this.renew();
    } catch (error) {
      // The player goes on; and it says so itself if it cannot.
      if (!isPassing(error) && !hasCode(error, 'not_ready')) return;
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
    // Asked again at the end as well, for the download that exists only then. The player keeps what it plays.
    const grown = status.status === 'done' && before?.status !== 'done';
    if (canPlay && (this.playback === null || grown)) {
      try {
        await this.renew();
      } catch (error) {
        if (!hasCode(error, 'not_ready')) throw error;
      }
    }
    // What the file was is known at the end.
    if (status.status === 'done' && this.video !== null && this.video.status.status !== 'done') {
      this.video = await this.#api.video(this.id);
    }
    return status;
  }
}
