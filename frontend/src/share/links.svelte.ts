/** The private links of one video: access codes that open it. */

import { Actions } from '../api/actions.svelte';
import { addressOf } from '../api/address';
import type { Api } from '../api/client';
import { hasCode } from '../api/errors';
import type { AccessCode } from '../api/types';

const DAY_MS = 86_400_000;

export interface Wishes {
  description: string;
  /** null: never. */
  days: number | null;
  /** Empty: none. */
  passphrase: string;
}

export class Links extends Actions {
  /** Newest first; null until they are loaded. */
  items = $state.raw<AccessCode[] | null>(null);

  readonly #api: Api;
  readonly #id: string;

  constructor(api: Api, id: string) {
    super();
    this.#api = api;
    this.#id = id;
  }

  async load(): Promise<void> {
    await this.run(async () => {
      this.items = await this.#api.accessCodes(this.#id);
    });
  }

  /** Return the code of a new link, or null if there is a problem. */
  async make({ description, days, passphrase }: Wishes): Promise<string | null> {
    let code: string | null = null;
    await this.run(async () => {
      const made = await this.#api.makeAccessCode({
        media_items: [{ media_slug: this.#id }],
        description,
        expires_at: days === null ? null : new Date(Date.now() + days * DAY_MS).toISOString(),
        passphrase: passphrase === '' ? null : passphrase,
      });
      code = made.code;
      this.items = [made, ...(this.items ?? [])];
    });
    return code;
  }

  async withdraw(link: AccessCode): Promise<void> {
    await this.run(async () => {
      try {
        await this.#api.withdrawAccessCode(link.id);
      } catch (error) {
        if (!hasCode(error, 'access_code_not_found')) throw error; // another page was faster
      }
      this.items = this.items?.filter((item) => item.id !== link.id) ?? null;
    });
  }
}

/** The address of a video's page; `code` opens it, and it starts at `seconds`. */
export function watchLink(id: string, root: string, { code, seconds }: { code?: string; seconds?: number }): string {
  const query = new URLSearchParams();
  if (code !== undefined) query.set('access_code', code);
  if (seconds !== undefined) query.set('t', String(Math.floor(seconds)));
  const text = query.toString();
  return addressOf(`/watch/${encodeURIComponent(id)}${text === '' ? '' : `?${text}`}`, root);
}
