/** Who is signed in, what they may do, and when to ask the user to sign in. */

import type { Api } from '../api/client';
import { ApiError, hasCode, messageFor } from '../api/errors';
import type { Principal } from '../api/types';
import { SignInGate } from './gate';

/** How often to ask an unreachable server. */
const RECHECK_MS = 5_000;

export class Session {
  /** null until the API has answered. */
  signedIn = $state<boolean | null>(null);
  /** Who is, or was before the session ended. null until the API has answered. */
  principal = $state.raw<Principal | null>(null);
  /** The first check has ended, even without an answer. */
  opened = $state(false);
  /** Whether to show the sign-in dialog. */
  asking = $state(false);
  busy = $state(false);
  problem = $state('');
  /** Incremented on every sign-in and sign-out. Pages with private content reload when it changes. */
  epoch = $state(0);

  /** Holds uploads while the user is signed out. */
  readonly gate = new SignInGate(() => void this.#check());

  readonly #api: Api;
  /** The other tabs, which share the session. */
  #tabs: BroadcastChannel | undefined;

  constructor(api: Api) {
    this.#api = api;
  }

  get isAdmin(): boolean {
    return this.principal?.role === 'admin';
  }

  get mayUpload(): boolean {
    return this.principal?.role !== 'viewer';
  }

  /** Whether they may change, share and delete what this person owns. The holder of the admin token owns what nobody does. */
  manages(owner: string | null): boolean {
    return this.isAdmin || (this.principal?.role === 'uploader' && owner === this.principal.person);
  }

  /** Follow other tabs, and ask the user to sign in on every 401; returns its own undo. */
  start(root: string): () => void {
    const tabs = new BroadcastChannel(`vodbucket-session ${root}`);
    this.#tabs = tabs;
    tabs.onmessage = ({ data }) => {
      if (data === 'signed out') this.#leave();
      else void this.recheck();
    };
    const undo = this.#api.onUnauthorized(() => {
      this.#leave();
      this.asking = true;
    });
    return () => {
      undo();
      tabs.close();
    };
  }

  /** Sign in with a token from the URL, say why a sign-in elsewhere failed, or find out whether this browser is signed in already. */
  async open(token: string | null, problem: string | null = null): Promise<void> {
    if (token === null) {
      await this.#check(false);
      if (problem !== null && this.signedIn !== true) this.#ask(problem);
    } else {
      await this.signIn(token);
      if (!this.signedIn) this.asking = true;
    }
    this.opened = true;
  }

  /** Check again: the session may have ended, and another tab may have signed in or out. */
  async recheck(): Promise<void> {
    if (!this.busy) await this.#check(false);
  }

  /** With `ask`, a request was rejected: show the dialog unless this tab or another has signed in since. */
  async #check(ask = true): Promise<void> {
    // Without a rejected request, a failed check says nothing about the sign-in.
    const epoch = this.epoch;
    const found = await this.#api.signedIn().catch(() => (ask ? null : undefined));
    // The user has signed in or out meanwhile.
    if (epoch !== this.epoch) return;
    if (found) {
      const isSame = JSON.stringify(found) === JSON.stringify(this.principal);
      if (this.signedIn !== true || this.gate.closed || !isSame) this.#enter(found);
    } else if (found === null) {
      this.#leave();
      if (ask) this.asking = true;
    } else if (this.signedIn === null) {
      setTimeout(() => void this.recheck(), RECHECK_MS);
    }
  }

  async signIn(token: string): Promise<void> {
    this.busy = true;
    this.problem = '';
    try {
      await this.#api.signIn(token.trim());
      const found = await this.#api.signedIn();
      if (found === null) throw new ApiError('unexpected_answer', 401, 'This browser doesn’t keep the session. Allow cookies for this site.');
      this.#enter(found);
      this.#tabs?.postMessage('signed in');
    } catch (error) {
      this.#leave();
      this.problem = hasCode(error, 'unauthorized') ? 'That isn’t a valid token.' : messageFor(error);
    } finally {
      this.busy = false;
    }
  }

  /** Rejects if the server did not end the session. */
  async signOut(): Promise<void> {
    await this.#api.signOut();
    this.#leave();
    this.#tabs?.postMessage('signed out');
  }

  /** Ask again after a sign-in through the provider failed. */
  #ask(problem: string): void {
    this.problem = problem === 'sign_in_cancelled' ? '' : messageFor(new ApiError(problem, 0, 'Couldn’t sign in.'));
    this.asking = true;
  }

  #enter(principal: Principal): void {
    this.principal = principal;
    this.signedIn = true;
    this.asking = false;
    this.epoch += 1;
    this.gate.open();
  }

  #leave(): void {
    if (this.signedIn === true) this.epoch += 1;
    this.signedIn = false;
  }
}

/** Read the token from `#token=…` and remove it from the address bar and the history. */
export function takeTokenFromUrl(): string | null {
  const token = tokenFromHash(location.hash);
  if (token !== null) history.replaceState(history.state, '', location.pathname + location.search);
  return token;
}

export function tokenFromHash(hash: string): string | null {
  const token = new URLSearchParams(hash.replace(/^#/, '')).get('token');
  return token === null || token === '' ? null : token;
}
