/** The list of videos, newest first, loaded page by page. */

import type { Api } from '../api/client';
import { hasCode } from '../api/errors';
import { Following, type Pushed, type Screen } from '../api/following';
import type { Video } from '../api/types';
import { isUnderWay } from '../jobs/progress';

const PAGE_SIZE = 12;
/** The API's limit of one request. */
const MAX_PAGE_SIZE = 200;
/** How often to look for changes: while videos are being encoded or the server cannot be reached, and otherwise. */
const SOON_MS = 4_000;
const IDLE_MS = 12_000;
/** While the server tells of nearly all changes. */
const LIVE_MS = 60_000;
/** Changes often come several at a time. */
const TOGETHER_MS = 300;
/** How long a failed video is listed among those in progress. */
const FAILED_FOR_MS = 24 * 3_600_000;

export class Library {
  videos = $state.raw<Video[]>([]);
  /** The user waits for more. */
  loading = $state(false);
  loaded = $state(false);
  error = $state.raw<unknown>(null);
  #cursor = $state<string | null>(null);
  #latest = 0;

  readonly #api: Api;

  constructor(api: Api) {
    this.#api = api;
  }

  get hasMore(): boolean {
    return this.#cursor !== null;
  }

  /** Videos that are under way, or have failed lately. */
  get jobs(): Video[] {
    const since = Date.now() - FAILED_FOR_MS;
    return this.videos.filter(
      ({ status }) => isUnderWay(status) || (status.status === 'error' && status.last_update_unix_ms > since),
    );
  }

  async cancel(id: string): Promise<void> {
    try {
      await this.#api.cancel(id);
    } catch (error) {
      // It ended meanwhile, which the list shows.
      if (!hasCode(error, 'nothing_to_cancel')) throw error;
    }
    await this.refresh();
  }

  async retry(id: string): Promise<void> {
    try {
      await this.#api.retranscode(id);
    } catch (error) {
      if (!hasCode(error, 'already_queued')) throw error;
    }
    await this.refresh();
  }

  /**
   * Load as many videos as are shown, or `count` if that is more. Works during another load: the user may have signed in
   * or out since it began.
   */
  async refresh(count = 0): Promise<void> {
    await this.#load(null, Math.max(PAGE_SIZE, count, this.videos.length), []);
  }

  async more(): Promise<void> {
    if (this.#cursor === null || this.loading) return;
    this.loading = true;
    await this.#load(this.#cursor, PAGE_SIZE, this.videos);
  }

  /** Show changes while `screen` is visible; returns its own undo. */
  follow(screen: Screen): () => void {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let isSoon = false;
    /** New videos that were looked for: a conversion is not listed. */
    const sought = new Set<string>();
    const usualMs = () => {
      if (this.error !== null) return SOON_MS;
      if (following.live) return LIVE_MS;
      return this.#isEncoding ? SOON_MS : IDLE_MS;
    };
    const wait = (waitMs = usualMs()) => {
      clearTimeout(timer);
      timer = setTimeout(() => void look(), waitMs);
    };
    const soon = () => {
      if (!isSoon) wait(TOGETHER_MS);
      isSoon = true;
    };
    const hear = (pushed: Pushed) => {
      if (pushed.type === 'ping') return;
      if (pushed.type !== 'video') {
        soon();
      } else if (this.videos.some(({ id }) => id === pushed.id)) {
        if (this.#take(pushed)) soon();
      } else if (!sought.has(pushed.id) && !this.#isBelow(pushed.id)) {
        sought.add(pushed.id);
        soon();
      }
    };
    const following = new Following(this.#api.followAll(), hear, screen);
    const look = async () => {
      isSoon = false;
      if (!screen.hidden && !this.loading) await this.refresh();
      if (timer !== undefined) wait();
    };
    const onVisible = () => void look();
    screen.addEventListener('visibilitychange', onVisible);
    const stop = following.start();
    wait();
    return () => {
      screen.removeEventListener('visibilitychange', onVisible);
      stop();
      clearTimeout(timer);
      timer = undefined;
    };
  }

  forget(): void {
    this.#latest += 1;
    this.loading = false;
    this.videos = [];
    this.#cursor = null;
    this.loaded = false;
    this.error = null;
  }

  /** Show a pushed status. Returns whether there is more to show than that. */
  #take(pushed: Extract<Pushed, { type: 'video' }>): boolean {
    const before = this.videos.find(({ id }) => id === pushed.id);
    this.videos = this.videos.map((video) => (video.id === pushed.id ? { ...video, status: pushed.status } : video));
    return (
      before?.title !== pushed.title ||
      before.visibility !== pushed.visibility ||
      before.status.status !== pushed.status.status ||
      before.status.playable !== pushed.status.playable
    );
  }

  /** Whether the video is on a later page. Ids begin with the time of their creation. */
  #isBelow(id: string): boolean {
    const last = this.videos.at(-1);
    return this.hasMore && last !== undefined && id < last.id;
  }

  get #isEncoding(): boolean {
    return this.videos.some(({ status }) => isUnderWay(status));
  }

  /** Ignores the response to any earlier load. */
  async #load(cursor: string | null, count: number, before: Video[]): Promise<void> {
    const load = ++this.#latest;
    const known = new Set(before.map((video) => video.id));
    const videos = [...before];
    try {
      do {
        const page = await this.#api.videos(cursor, Math.min(count, MAX_PAGE_SIZE));
        if (load !== this.#latest) return;
        videos.push(...page.videos.filter((video) => !known.has(video.id)));
        cursor = page.next_cursor;
        count -= page.videos.length;
      } while (cursor !== null && count > 0);
      this.videos = videos;
      this.#cursor = cursor;
      this.error = null;
      this.loaded = true;
    } catch (error) {
      if (load === this.#latest) this.error = error;
    } finally {
      if (load === this.#latest) this.loading = false;
    }
  }
}
