/** Whether this browser is signed in, and when to ask the user to sign in. */

import type { Api } from '../api/client';
import { hasCode, messageFor } from '../api/errors';
import { SignInGate } from './gate';

export class Session {
  /** null until the API has answered. */
  signedIn = $state<boolean | null>(null);
  /** Whether to show the sign-in dialog. */
  asking = $state(false);
  busy = $state(false);
  problem = $state('');
  /** Incremented on every sign-in and sign-out. Pages with private content reload when it changes. */
  epoch = $state(0);

  /** Holds uploads while the user is signed out. */
  readonly gate = new SignInGate(() => void this.#check());

  readonly #api: Api;

  constructor(api: Api) {
    this.#api = api;
  }

  /** Ask the user to sign in on every 401 from now on; returns its own undo. */
  start(): () => void {
    return this.#api.onUnauthorized(() => {
      this.signedIn = false;
      this.asking = true;
    });
  }

  /** Sign in with a token from the URL, or find out whether this browser is signed in already. */
  async open(token: string | null): Promise<void> {
    if (token !== null) {
      await this.signIn(token);
      if (!this.signedIn) this.asking = true;
      return;
    }
    try {
      this.signedIn = await this.#api.signedIn();
    } catch {
      // The server is unreachable, which the page's own requests will report. The sign-in may still be valid.
    }
  }

  /** Check again if the sign-in state is unknown, or if another tab may have signed in. */
  async recheck(): Promise<void> {
    if (!this.busy && (this.gate.closed || this.signedIn === null)) await this.#check(false);
  }

  /** With `ask`, a request was rejected: show the dialog unless this tab or another has signed in since. */
  async #check(ask = true): Promise<void> {
    // Without a rejected request, a failed check says nothing about the sign-in.
    const signedIn = await this.#api.signedIn().catch(() => (ask ? false : null));
    if (signedIn === null) return;
    this.signedIn = signedIn;
    if (signedIn) this.#enter();
    else if (ask) this.asking = true;
  }

  async signIn(token: string): Promise<void> {
    this.busy = true;
    this.problem = '';
    try {
      await this.#api.signIn(token.trim());
      this.signedIn = true;
      this.#enter();
    } catch (error) {
      this.signedIn = false;
      this.problem = hasCode(error, 'unauthorized') ? 'That isn’t the admin token.' : messageFor(error);
    } finally {
      this.busy = false;
    }
  }

  #enter(): void {
    this.asking = false;
    this.epoch += 1;
    this.gate.open();
  }

  async signOut(): Promise<void> {
    await this.#api.signOut();
    this.signedIn = false;
    this.epoch += 1;
  }
}

/** Read the token from `#token=…` and remove it from the address bar and the history. */
export function takeTokenFromUrl(): string | null {
  const token = tokenFromHash(location.hash);
  if (token !== null) history.replaceState(null, '', location.pathname + location.search);
  return token;
}

export function tokenFromHash(hash: string): string | null {
  const token = new URLSearchParams(hash.replace(/^#/, '')).get('token');
  return token === null || token === '' ? null : token;
}
