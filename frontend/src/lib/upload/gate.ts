/** Holds requests back from the first 401 until somebody has signed in again. */
export class SignInGate {
  readonly #ask: () => void;
  #closed = false;
  #waiting: (() => void)[] = [];

  /** `ask` sees to it that `open` is called one day; it is called once however many requests are refused. */
  constructor(ask: () => void) {
    this.#ask = ask;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** A request was refused. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#ask();
  }

  open(): void {
    this.#closed = false;
    for (const goOn of this.#waiting.splice(0)) goOn();
  }

  /** Resolves when a request has a chance: at once, or after the sign-in. */
  async through(): Promise<void> {
    while (this.#closed) await new Promise<void>((goOn) => this.#waiting.push(goOn));
  }
}
