/** Receives what the server pushes. Its users also poll now and then, and often while nothing arrives. */

import { backOff } from './backoff';
import type { Status, VideoChange } from './types';

/** The server breaks silence after 15 s. */
const SILENCE_MS = 40_000;
const LONGEST_WAIT_MS = 60_000;

export type Pushed =
  | { type: 'video'; id: string; title: string; visibility: VideoChange['visibility'] | null; status: Status }
  | { type: 'gone'; id: string }
  /** Too much has happened to tell it. */
  | { type: 'all' }
  | { type: 'ping' }
  /** The video is gone, or may not be seen any more: asking tells. Nothing follows. */
  | { type: 'end' }
  /** The connection was lost. From now on, asking helps. */
  | { type: 'lost' };

/** Opens a connection; returns its undo. `lost` is called at most once, and never after the undo. */
export type Connect = (heard: (pushed: Pushed) => void, lost: () => void) => () => void;

/** A document, which knows whether anybody sees it. */
export type Screen = Pick<Document, 'hidden' | 'addEventListener' | 'removeEventListener'>;

/** Connects while `screen` is visible: browsers open only six connections to a server. */
export class Following {
  /** The server has been heard lately, so there is no need to ask. */
  live = false;

  readonly #connect: Connect;
  readonly #tell: (pushed: Pushed) => void;
  readonly #screen: Screen;
  #disconnect: (() => void) | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #waitMs = 0;

  constructor(connect: Connect, tell: (pushed: Pushed) => void, screen: Screen) {
    this.#connect = connect;
    this.#tell = tell;
    this.#screen = screen;
  }

  /** Follow, and connect again after growing pauses; returns its own undo. */
  start(): () => void {
    const onVisible = () => {
      const wasLive = this.live;
      this.#close();
      if (!this.#screen.hidden) this.#open();
      else if (wasLive) this.#tell({ type: 'lost' });
    };
    this.#screen.addEventListener('visibilitychange', onVisible);
    onVisible();
    return () => {
      this.#screen.removeEventListener('visibilitychange', onVisible);
      this.#close();
    };
  }

  #open(): void {
    const lost = () => {
      const wasLive = this.live;
      this.#close();
      // Not all that a server has lost come back at the same moment.
      this.#waitMs = backOff(this.#waitMs, LONGEST_WAIT_MS) * (1 + Math.random() / 4);
      this.#timer = setTimeout(() => this.#open(), this.#waitMs);
      if (wasLive) this.#tell({ type: 'lost' });
    };
    const heard = (pushed: Pushed) => {
      this.live = pushed.type !== 'end';
      this.#waitMs = 0;
      clearTimeout(this.#timer);
      if (this.live) this.#timer = setTimeout(lost, SILENCE_MS);
      else this.#close();
      this.#tell(pushed);
    };
    this.#timer = setTimeout(lost, SILENCE_MS);
    try {
      this.#disconnect = this.#connect(heard, lost);
    } catch {
      lost(); // the browser refuses, for example because of a policy
    }
  }

  #close(): void {
    this.live = false;
    clearTimeout(this.#timer);
    this.#disconnect?.();
    this.#disconnect = undefined;
  }
}
