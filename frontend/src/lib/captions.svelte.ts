/** The captions of one video as its owner edits them. */

import type { Api } from './api/client';
import { ApiError, hasCode, type LocalCode } from './api/errors';
import type { Captions } from './api/types';

/** What the API takes; a larger file is refused here, before it is sent. */
const MAX_BYTES = 2 * 1024 * 1024;
const TOO_LARGE: LocalCode = 'captions_too_large';

export class CaptionsEditor {
  /** null while loading. */
  items = $state.raw<Captions[] | null>(null);
  /** What went wrong last. */
  problem = $state.raw<unknown>(null);
  /** A change is under way. */
  busy = $state(false);

  readonly #api: Api;
  readonly #id: string;
  readonly #onchange: () => void;

  /** `onchange` is called once captions have come or gone. */
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

  /** Say whether the captions are stored now. */
  async upload(file: File, language: string, label: string): Promise<boolean> {
    return this.#change(async () => {
      if (file.size > MAX_BYTES) throw new ApiError(TOO_LARGE, 0, 'too large');
      await this.#api.uploadCaptions(this.#id, language.trim(), label.trim(), file);
    });
  }

  /** Say whether the captions are gone now. */
  async remove(captions: Captions): Promise<boolean> {
    return this.#change(async () => {
      try {
        await this.#api.deleteCaptions(this.#id, captions.language);
      } catch (error) {
        // Deleted on another page: the list was old.
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
