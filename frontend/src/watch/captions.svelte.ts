/** Lists, uploads and deletes the captions of one video. */

import type { Api } from '../api/client';
import { ApiError, hasCode } from '../api/errors';
import type { Captions } from '../api/types';

/** The API's limit. Larger files are rejected here, before they are sent. */
const MAX_BYTES = 2 * 1024 * 1024;

export class CaptionsEditor {
  /** null while loading. */
  items = $state.raw<Captions[] | null>(null);
  /** Why the last action failed. */
  problem = $state.raw<unknown>(null);
  /** A change is in progress. */
  busy = $state(false);

  readonly #api: Api;
  readonly #id: string;
  readonly #onchange: () => void;

  /** `onchange` is called after captions were added or deleted. */
  constructor(api: Api, id: string, onchange: () => void) {
    this.#api = api;
    this.#id = id;
    this.#onchange = onchange;
  }

  async load(): Promise<void> {
    try {
      this.items = await this.#api.captions(this.#id);
    } catch (error) {
      this.problem = error;
    }
  }

  /** Resolves to whether the captions are stored now. */
  async upload(file: File, language: string, label: string): Promise<boolean> {
    return this.#change(async () => {
      if (file.size > MAX_BYTES) throw new ApiError('captions_too_large', 0, 'too large');
      await this.#api.uploadCaptions(this.#id, language.trim(), label.trim(), file);
    });
  }

  /** Resolves to whether the captions are deleted now. */
  async remove(captions: Captions): Promise<boolean> {
    return this.#change(async () => {
      try {
        await this.#api.deleteCaptions(this.#id, captions.language);
      } catch (error) {
        // They were already deleted on another page.
        if (!hasCode(error, 'captions_not_found')) throw error;
      }
    });
  }

  async #change(change: () => Promise<void>): Promise<boolean> {
    this.busy = true;
    this.problem = null;
    try {
      await change();
      await this.load();
    } catch (error) {
      this.problem = error;
      return false;
    } finally {
      this.busy = false;
    }
    this.#onchange();
    return true;
  }
}
