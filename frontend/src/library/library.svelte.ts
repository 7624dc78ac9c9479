/** The list of videos, newest first, loaded page by page. */

import type { Api } from '../api/client';
import type { Video } from '../api/types';

const PAGE_SIZE = 12;

export class Library {
  videos = $state.raw<Video[]>([]);
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

  /** Load the first page again, even during another load: the user may have signed in or out since it began. */
  async refresh(): Promise<void> {
    await this.#load(null, []);
  }

  async more(): Promise<void> {
    if (this.#cursor !== null && !this.loading) await this.#load(this.#cursor, this.videos);
  }

  forget(): void {
    this.#latest += 1;
    this.loading = false;
    this.videos = [];
    this.#cursor = null;
    this.loaded = false;
  }

  /** Ignores the response to any earlier load. */
  async #load(cursor: string | null, before: Video[]): Promise<void> {
    const load = ++this.#latest;
    this.loading = true;
    try {
      const page = await this.#api.videos(cursor, PAGE_SIZE);
      if (load !== this.#latest) return;
      const known = new Set(before.map((video) => video.id));
      this.videos = [...before, ...page.videos.filter((video) => !known.has(video.id))];
      this.#cursor = page.next_cursor;
      this.error = null;
      this.loaded = true;
    } catch (error) {
      if (load === this.#latest) this.error = error;
    } finally {
      if (load === this.#latest) this.loading = false;
    }
  }
}
