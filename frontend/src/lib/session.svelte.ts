/** Whether this browser is signed in, and when to ask for the token. */

import type { Api } from './api/client';
import { hasCode, sentence } from './api/errors';
import { SignInGate } from './upload/gate';

export class Session {
  /** null until the API has answered. */
  signedIn = $state<boolean | null>(null);
  /** The dialog is to be shown. */
  asking = $state(false);
  busy = $state(false);
  problem = $state('');
  /** Goes up with every sign-in and sign-out: whoever shows private things loads again. */
  epoch = $state(0);

  /** Holds uploads back while nobody is signed in. */
  readonly gate = new SignInGate(() => void this.#openGate());

  readonly #api: Api;

  constructor(api: Api) {
    this.#api = api;
  }

  /** Ask for the token on every 401 from now on; returns its own undo. */
  start(): () => void {
    return this.#api.onUnauthorized(() => {
      this.signedIn = false;
      this.asking = true;
    });
  }

  /** Find out where we stand; a token from the address wins. */
  async open(token: string | null): Promise<void> {
    if (token !== null) {
      await this.signIn(token);
      if (!this.signedIn) this.asking = true;
      return;
    }
    try {
      this.signedIn = await this.#api.signedIn();
    } catch {
      // Unreachable: the page's own requests will say so. Whether the sign-in still holds is not known.
    }
  }

  /** Look whether there is a sign-in where that is not known, or one again, perhaps from another tab. */
  async look(): Promise<void> {
    if (!this.busy && (this.gate.closed || this.signedIn === null)) await this.#openGate(false);
  }

  async #openGate(ask = true): Promise<void> {
    // Another tab may have signed in, or this one after the refused request was sent.
    // A request was refused when we are to ask; else a failure says nothing.
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
      this.problem = hasCode(error, 'unauthorized') ? 'This is not the admin token.' : sentence(error);
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

/** Take the token out of `#token=...` and strip it from the address, the history included. */
export function takeTokenFromAddress(): string | null {
  const token = tokenOf(location.hash);
  if (token !== null) history.replaceState(null, '', location.pathname + location.search);
  return token;
}

export function tokenOf(hash: string): string | null {
  const token = new URLSearchParams(hash.replace(/^#/, '')).get('token');
  return token === null || token === '' ? null : token;
}
