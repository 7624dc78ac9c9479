/** The newest videos, page after page. */

import type { Api } from './api/client';
import type { Video } from './api/types';

const PAGE_SIZE = 12;

export class Library {
  videos = $state.raw<Video[]>([]);
  loading = $state(false);
  loaded = $state(false);
  error = $state.raw<unknown>(null);
  #cursor = $state<string | null>(null);

  readonly #api: Api;

  constructor(api: Api) {
    this.#api = api;
  }

  get hasMore(): boolean {
    return this.#cursor !== null;
  }

  /** Load the first page again. */
  async refresh(): Promise<void> {
    await this.#load(null, []);
  }

  async more(): Promise<void> {
    if (this.#cursor !== null) await this.#load(this.#cursor, this.videos);
  }

  forget(): void {
    this.videos = [];
    this.#cursor = null;
    this.loaded = false;
  }

  async #load(cursor: string | null, before: Video[]): Promise<void> {
    if (this.loading) return;
    this.loading = true;
    try {
      const page = await this.#api.videos(cursor, PAGE_SIZE);
      const known = new Set(before.map((video) => video.id));
      this.videos = [...before, ...page.videos.filter((video) => !known.has(video.id))];
      this.#cursor = page.next_cursor;
      this.error = null;
      this.loaded = true;
    } catch (error) {
      this.error = error;
    } finally {
      this.loading = false;
    }
  }
}
