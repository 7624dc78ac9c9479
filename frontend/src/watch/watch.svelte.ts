/** The state of one watch page: the video, its status during encoding, and its playback URLs. */

import { backOff } from '../api/backoff';
import type { Api } from '../api/client';
import { hasCode, isGone, isTransient } from '../api/errors';
import { Following, type Pushed, type Screen } from '../api/following';
import { accessOf, rememberPassphrase } from '../share/access';
import type { Access, Playback, Status, VideoChange, VideoDetails } from '../api/types';
import { StatusPoller } from './poller.svelte';

/** How often to check whether the video is playable, for guests who may not read its status. */
const GUEST_RETRY_MS = 4_000;
const GUEST_FIRST_MS = 1_000;
const GUEST_FIRST_TRIES = 15;
/** How often to check whether a video that is being watched has changed, or is gone. */
const FOLLOW_MS = 10_000;
/** The same while the server would tell. */
const LIVE_FOLLOW_MS = 60_000;
/** For tests. */
const ALWAYS_VISIBLE: Screen = { hidden: false, addEventListener() {}, removeEventListener() {} };

export class Watch {
  /** Or the slug, until the video is loaded. */
  id: string;
  /** null while loading, and for guests, who may not read it. */
  video = $state.raw<VideoDetails | null>(null);
  playback = $state.raw<Playback | null>(null);
  /** Incremented when a running player should reload. */
  revision = $state(0);
  /** The viewer is not signed in. The video may still be public. */
  guest = $state(false);
  /** A guest is waiting for a public video that is not playable yet. */
  waiting = $state(false);
  /** The link needs a passphrase that the guest has not entered yet. */
  locked = $state(false);
  /** Why the video cannot be shown. */
  problem = $state.raw<unknown>(null);
  /** The video was shown before it became unavailable. */
  lost = $state(false);
  /** Why opening the video takes longer: the request failed and will be retried. */
  trouble = $state.raw<unknown>(null);

  readonly #api: Api;
  readonly #poller: StatusPoller;
  readonly #following: Following;
  readonly #screen: Screen;
  /** What the guest was given. */
  #access: Access | null;
  /** Aborted when the latest `start` is undone. */
  #ended: AbortSignal = AbortSignal.abort();
  #stopPolling = () => {};
  #stopListening = () => {};
  /** What the server has pushed last. */
  #pushed: Extract<Pushed, { type: 'video' }> | null = null;
  /** Whose `start` follows what the server pushes. */
  #listening: AbortSignal | undefined;
  /** What to do next, and when. */
  #next: (() => void) | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Counts this page's own changes: what was asked for before one is outdated. */
  #changes = 0;

  constructor(api: Api, id: string, screen = ALWAYS_VISIBLE, accessCode: string | null = null) {
    this.#api = api;
    this.id = id;
    this.#screen = screen;
    this.#access = accessOf(accessCode);
    const connect = api.followVideo(id, () => (this.guest ? this.#access : null));
    this.#following = new Following(connect, (pushed) => this.#hear(pushed), screen);
    this.#poller = new StatusPoller((pushed) => this.#loadStatus(pushed), () => this.#following.live);
  }

  get status(): Status | null {
    return this.#poller.status ?? this.video?.status ?? null;
  }

  /** The last poll failed. Polling continues. */
  get interrupted(): boolean {
    return this.#poller.error !== null;
  }

  /** Load the video and follow it; returns its own undo. Without a sign-in, nothing private stays on the page. */
  start(signedIn: boolean | null = null): () => void {
    const ended = new AbortController();
    this.problem = null;
    this.trouble = null;
    this.waiting = false;
    this.lost = false;
    this.locked = false;
    this.#ended = ended.signal;
    if (signedIn === false) this.#hide(this.video?.visibility === 'public');
    void this.#open(ended.signal);
    return () => ended.abort();
  }

  /** Get a fresh grant, for example after the player's has expired. */
  async renew(): Promise<Playback> {
    const ended = this.#ended;
    try {
      const playback = await this.#api.playback(this.id, this.guest, this.#access);
      if (!ended.aborted) this.playback = playback;
      return playback;
    } catch (error) {
      if (!ended.aborted) this.#check(error);
      throw error;
    }
  }

  /** Open the video with the passphrase of the link. */
  async unlock(passphrase: string): Promise<void> {
    if (this.#access === null) return;
    this.#access = { ...this.#access, passphrase };
    await this.#openAsGuest(this.#ended);
    if (!this.locked) rememberPassphrase(this.#access);
  }

  async change(change: VideoChange): Promise<void> {
    await this.#api.change(this.id, change);
    this.#changes += 1;
    if (this.video !== null) this.video = { ...this.video, ...change };
  }

  /** End playback and say so, if `error` means that the video was deleted or may no longer be watched. */
  #check(error: unknown): void {
    if (this.problem !== null || !(isGone(error) || hasCode(error, 'unauthorized', 'access_code_rejected'))) return;
    this.lost = this.video !== null || this.playback !== null;
    this.problem = error;
    this.#hide();
  }

  #hide(isPublic = false): void {
    this.#stopPolling();
    this.#stopListening();
    this.#poller.status = null;
    this.video = null;
    // A guest may keep watching a public video.
    if (!isPublic) this.playback = null;
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

  /** Cancel what the video's job does or waits for. The poller then learns of it. */
  async cancel(): Promise<void> {
    const ended = this.#ended;
    try {
      await this.#api.cancel(this.id);
    } catch (error) {
      if (!hasCode(error, 'nothing_to_cancel')) throw error;
    }
    if (!ended.aborted) this.#follow(ended);
  }

  /** Reload the player after captions changed. Growing playlists do not have them yet. */
  async captionsChanged(): Promise<void> {
    if (this.playback === null || this.playback.presentation === 'growing') return;
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
      this.id = video.id;
    } catch (error) {
      if (ended.aborted) return;
      if (hasCode(error, 'unauthorized') || (this.#access !== null && isGone(error))) await this.#openAsGuest(ended);
      else if (isTransient(error)) this.#openLater(error, waitedMs, (waitMs) => this.#open(ended, waitMs), ended);
      else this.problem = error;
      return;
    }
    this.guest = false;
    this.trouble = null;
    this.#follow(ended);
    this.#keepCurrent(ended, () => this.#refresh(ended));
  }

  #follow(ended: AbortSignal): void {
    this.#stopPolling();
    this.#stopPolling = this.#poller.start();
    ended.addEventListener('abort', this.#stopPolling);
  }

  async #openAsGuest(ended: AbortSignal, waitedMs = 0, tries = 0): Promise<void> {
    this.guest = true;
    try {
      await this.renew();
      if (ended.aborted) return;
      this.waiting = false;
      this.locked = false;
      this.problem = null;
      this.trouble = null;
      this.#keepCurrent(ended, () => this.renew());
    } catch (error) {
      if (ended.aborted) return;
      if (hasCode(error, 'not_ready')) {
        this.waiting = true;
        this.locked = false;
        this.problem = null;
        this.trouble = null;
        this.#listen(ended);
        this.#later(ended, this.#waitMs(tries < GUEST_FIRST_TRIES ? GUEST_FIRST_MS : GUEST_RETRY_MS), () => {
          void this.#openAsGuest(ended, 0, tries + 1);
        });
      } else if (isTransient(error)) {
        this.#openLater(error, waitedMs, (waitMs) => this.#openAsGuest(ended, waitMs), ended);
      } else {
        this.problem = error;
        const hasToWait = this.locked && hasCode(error, 'too_many_attempts');
        this.locked = hasToWait || hasCode(error, 'passphrase_required', 'passphrase_wrong');
        if (hasCode(error, 'unauthorized')) this.#api.reportUnauthorized();
      }
    }
  }

  /** Look again and again whether the video has changed, or has more for the player. */
  #keepCurrent(ended: AbortSignal, look: () => Promise<unknown>): void {
    this.#listen(ended);
    const status = this.guest ? this.#pushed?.status : this.status;
    const isFinal = status?.status === 'done' || status?.status === 'error';
    this.#later(ended, isFinal ? this.#waitMs(FOLLOW_MS) : FOLLOW_MS, () => void this.#lookAgain(ended, look));
  }

  #waitMs(usualMs: number): number {
    return this.#following.live ? LIVE_FOLLOW_MS : usualMs;
  }

  #later(ended: AbortSignal, waitMs: number, act: () => void): void {
    clearTimeout(this.#timer);
    this.#next = () => {
      if (!ended.aborted) act();
    };
    this.#timer = setTimeout(this.#next, waitMs);
  }

  #now(): void {
    clearTimeout(this.#timer);
    this.#next?.();
  }

  /** Hear of changes from now on. */
  #listen(ended: AbortSignal): void {
    if (ended.aborted || this.#listening === ended) return;
    this.#listening = ended;
    this.#pushed = null;
    this.#stopListening = this.#following.start();
    ended.addEventListener('abort', this.#stopListening);
  }

  #hear(pushed: Pushed): void {
    if (pushed.type === 'end' || pushed.type === 'lost') {
      // The answer tells what has happened.
      if (this.guest) this.#now();
      else this.#poller.look();
    } else if (pushed.type === 'video') {
      const before = this.#pushed;
      this.#pushed = pushed;
      if (this.guest) {
        const { playable, status } = pushed.status;
        const isNews = before !== null && (playable !== before.status.playable || status !== before.status.status);
        if (isNews || (this.waiting && playable)) this.#now();
        return;
      }
      // What this page has changed itself may be on its way.
      const isChanged = before !== null && (pushed.title !== before.title || pushed.visibility !== before.visibility);
      if (isChanged && this.video !== null && pushed.visibility != null) {
        this.video = { ...this.video, title: pushed.title, visibility: pushed.visibility };
      }
      this.#poller.look(pushed.status);
    }
  }

  async #lookAgain(ended: AbortSignal, look: () => Promise<unknown>): Promise<void> {
    if (ended.aborted) return;
    try {
      // Nobody watches a hidden page, and the player itself notices what it cannot load.
      if (!this.#screen.hidden) await look();
    } catch (error) {
      if (ended.aborted) return;
      this.#check(error);
      // The player keeps playing, and reports it if it cannot.
      if (this.problem !== null) return;
    }
    if (!ended.aborted) this.#keepCurrent(ended, look);
  }

  async #refresh(ended: AbortSignal): Promise<void> {
    if (this.status?.status === 'queued' || this.status?.status === 'processing') {
      // The poller follows the status. Captions, previews and the poster are made during encoding.
      if (this.playback !== null) await this.renew();
      return;
    }
    const changes = this.#changes;
    const video = await this.#api.video(this.id);
    if (ended.aborted || changes !== this.#changes) return;
    this.video = video;
    // Another page has asked for a new encoding.
    if (video.status.request !== this.status?.request) this.#follow(ended);
  }

  #openLater(error: unknown, waitedMs: number, open: (waitMs: number) => Promise<void>, ended: AbortSignal): void {
    this.trouble = error;
    const waitMs = backOff(waitedMs);
    this.#later(ended, waitMs, () => void open(waitMs));
  }

  async #loadStatus(pushed?: Status): Promise<Status> {
    const ended = this.#ended;
    const before = this.#poller.status;
    const asked = () =>
      this.#api.status(this.id).catch((error: unknown) => {
        this.#check(error);
        throw error;
      });
    const status = pushed ?? (await asked());
    if (ended.aborted) return status;
    const canPlay = status.playable || status.status === 'done' || status.reduced;
    // There is more than the download now.
    const isMade = this.playback?.presentation === 'reduced' && status.playable && status.stage !== 'complete';
    // Renew once more at the end, for the download that exists only then. The player keeps playing.
    const justFinished = status.status === 'done' && before?.status !== 'done';
    if (canPlay && (this.playback === null || justFinished || isMade)) {
      try {
        await this.renew();
      } catch (error) {
        if (!hasCode(error, 'not_ready')) throw error;
      }
    }
    // The description of the original file is available once encoding has finished.
    if (status.status === 'done' && this.video !== null && this.video.status.status !== 'done') {
      const video = await this.#api.video(this.id);
      if (!ended.aborted) this.video = video;
    }
    return status;
  }
}
