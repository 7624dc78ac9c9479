/**
 * The largest request body that reaches this server. Proxies in between limit them: nginx to 1 MiB unless told
 * otherwise, Cloudflare to 100 MB.
 */

import { ApiError } from '../api/errors';

const SMALLEST_BYTES = 512 * 1024;
const FIRST_BYTES = 64 * 1024 ** 2;
/** The proxy may be changed, so after a day a whole file is tried again. */
const REMEMBERED_MS = 24 * 3600 * 1000;

type Memory = Pick<Storage, 'getItem' | 'setItem'>;

export class BodyLimit {
  readonly #memory: Memory | null;
  readonly #key: string;
  /** Failures in a row without an offset gained, by upload. */
  readonly #stuck = new Map<string, { offset: string; failures: number }>();
  #bytes = Infinity;

  /** `root` tells apart the servers that share the memory. */
  constructor(memory: Memory | null, root: string) {
    this.#memory = memory;
    this.#key = `vodbucket-body-limit ${root}`;
    const [bytes, untilMs] = String(memory?.getItem(this.#key)).split(' ').map(Number);
    if (bytes! > 0 && untilMs! > Date.now()) this.#bytes = bytes!;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** A proxy said that a body of this size is too large. Returns whether to send a smaller one. */
  refused(bodyBytes: number): boolean {
    if (!this.#shrink(bodyBytes, 2)) return false;
    this.#memory?.setItem(this.#key, `${this.#bytes} ${Date.now() + REMEMBERED_MS}`);
    return true;
  }

  /**
   * A request broke off, or a proxy answered it. If it does so again at the same offset, although the server answers
   * other requests, the body may be too large: some proxies say so by closing the connection, and some pass on nothing
   * before they have it all.
   */
  failed(url: string, offset: string, bodyBytes: number): void {
    const before = this.#stuck.get(url);
    const failures = before?.offset === offset ? before.failures + 1 : 1;
    this.#stuck.set(url, { offset, failures });
    if (failures > 1) this.#shrink(bodyBytes, 4);
  }

  #shrink(bodyBytes: number, divisor: number): boolean {
    if (bodyBytes <= SMALLEST_BYTES) return false;
    const smaller = Math.max(SMALLEST_BYTES, Math.min(FIRST_BYTES, Math.floor(bodyBytes / divisor)));
    this.#bytes = Math.min(this.#bytes, smaller);
    return true;
  }
}

/** Whether the error came from a proxy: the API's own errors have a code. */
export function isFromProxy(status: number, body: string): boolean {
  return status >= 400 && ['proxy_limit', 'unexpected_answer'].includes(ApiError.from(status, body).code);
}

/** The browser's memory, if it may be used. */
export function browserMemory(): Memory | null {
  try {
    localStorage.getItem('');
    return localStorage;
  } catch {
    return null;
  }
}
