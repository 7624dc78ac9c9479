/** The images that one may see, newest first: loads, uploads, changes and deletes them. */

import type { Api } from '../api/client';
import { ApiError, isGone } from '../api/errors';
import type { Image, ImageChange } from '../api/types';

const PAGE_SIZE = 24;
/** The API's limit. Larger files are rejected here, before they are sent. */
const MAX_BYTES = 32 * 1024 ** 2;

export class Images {
  items = $state.raw<Image[]>([]);
  loaded = $state(false);
  /** Why the list could not be loaded. */
  error = $state.raw<unknown>(null);
  /** Name of the file that is being sent, and those that were not stored. */
  sending = $state<string | null>(null);
  failures = $state.raw<{ name: string; error: unknown }[]>([]);
  #cursor = $state<string | null>(null);

  readonly #api: Api;

  constructor(api: Api) {
    this.#api = api;
  }

  get hasMore(): boolean {
    return this.#cursor !== null;
  }

  async load(): Promise<void> {
    await this.#add(null, []);
  }

  async more(): Promise<void> {
    await this.#add(this.#cursor, this.items);
  }

  /** Send one file after the other. */
  async upload(files: Iterable<File>): Promise<void> {
    if (this.sending !== null) return;
    this.failures = [];
    // Copied, because the browser empties the list of dropped files.
    for (const file of [...files]) {
      this.sending = file.name;
      try {
        if (file.size > MAX_BYTES) throw new ApiError('image_too_large', 0, 'too large');
        this.items = [await this.#api.uploadImage(file), ...this.items];
      } catch (error) {
        this.failures = [...this.failures, { name: file.name, error }];
      }
    }
    this.sending = null;
  }

  async change(image: Image, change: ImageChange): Promise<void> {
    const changed = await this.#api.changeImage(image.id, change);
    this.items = this.items.map((item) => (item.id === image.id ? changed : item));
  }

  async remove(image: Image): Promise<void> {
    try {
      await this.#api.removeImage(image.id);
    } catch (error) {
      if (!isGone(error)) throw error;
    }
    this.items = this.items.filter((item) => item.id !== image.id);
  }

  async #add(cursor: string | null, before: Image[]): Promise<void> {
    try {
      const page = await this.#api.images(cursor, PAGE_SIZE);
      const known = new Set(before.map((image) => image.id));
      this.items = [...before, ...page.images.filter((image) => !known.has(image.id))];
      this.#cursor = page.next_cursor;
      this.error = null;
      this.loaded = true;
    } catch (error) {
      this.error = error;
    }
  }
}
