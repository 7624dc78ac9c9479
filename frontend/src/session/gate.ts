/** Holds requests from the first 401 until the user has signed in again. */
export class SignInGate {
  readonly #ask: () => void;
  #closed = false;
  #waiting: (() => void)[] = [];

  /** `ask` runs once each time the gate closes, and must eventually lead to `open`. */
  constructor(ask: () => void) {
    this.#ask = ask;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Close the gate, because a request was rejected with 401. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#ask();
  }

  open(): void {
    this.#closed = false;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** Resolves when the gate is open. */
  async through(): Promise<void> {
    while (this.#closed) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }
}
