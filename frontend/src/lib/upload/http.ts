/**
 * The requests of tus-js-client, so that none of them throws away what has been uploaded.
 *
 * A request waits for the sign-in before it is sent, and after a failure for the network. One that stands still is
 * given up, since a browser does not notice when the network was changed below a connection. And only 404 and 410 mean
 * that an upload is gone: tus-js-client takes every bad answer to HEAD, 401 and 503 included, for a reason to begin
 * anew.
 */

import type { HttpRequest, HttpResponse, HttpStack } from 'tus-js-client';

import type { Patience } from './patience';
import { bytesOf } from './reading';

const STILL_MS = 120_000;
/** The server may put a large file together before it answers. */
const ANSWER_MS = 900_000;
const TELLING_ANSWERS_TO_HEAD = [404, 410, 423];

export interface Traffic {
  /** So many more bytes have left the browser. */
  onSent: (bytes: number) => void;
}

export class PatientHttpStack implements HttpStack {
  readonly #inner: HttpStack;
  readonly #patience: Patience;
  readonly #traffic: Traffic;

  constructor(inner: HttpStack, patience: Patience, traffic: Traffic) {
    this.#inner = inner;
    this.#patience = patience;
    this.#traffic = traffic;
  }

  createRequest(method: string, url: string): HttpRequest {
    return new PatientRequest(this.#inner.createRequest(method, url), this.#patience, this.#traffic);
  }

  getName(): string {
    return 'PatientHttpStack';
  }
}

class PatientRequest implements HttpRequest {
  readonly #inner: HttpRequest;
  readonly #patience: Patience;
  readonly #traffic: Traffic;
  #aborted = false;
  #sentBytes = 0;
  #giveUp: ReturnType<typeof setTimeout> | undefined;
  #onMoved: () => void = () => undefined;

  constructor(inner: HttpRequest, patience: Patience, traffic: Traffic) {
    this.#inner = inner;
    this.#patience = patience;
    this.#traffic = traffic;
  }

  getMethod(): string {
    return this.#inner.getMethod();
  }

  getURL(): string {
    return this.#inner.getURL();
  }

  setHeader(header: string, value: string): void {
    this.#inner.setHeader(header, value);
  }

  getHeader(header: string): string | undefined {
    return this.#inner.getHeader(header);
  }

  getUnderlyingObject(): unknown {
    return this.#inner.getUnderlyingObject();
  }

  setProgressHandler(handler: (bytesSent: number) => void): void {
    this.#inner.setProgressHandler((bytesSent) => {
      this.#traffic.onSent(bytesSent - this.#sentBytes);
      this.#sentBytes = bytesSent;
      this.#onMoved();
      handler(bytesSent);
    });
  }

  /** As with XMLHttpRequest below it, a request that was aborted is never heard of again. */
  async abort(): Promise<void> {
    this.#aborted = true;
    clearTimeout(this.#giveUp);
    await this.#inner.abort();
  }

  async send(body: Blob | null): Promise<HttpResponse> {
    await this.#patience.chance();
    if (this.#aborted) return new Promise(() => undefined);
    try {
      return await this.#goodAnswerTo(body);
    } catch (cause) {
      // tus-js-client repeats what names its request (upload.js:1030), and forgets to name the one that puts pieces
      // together (upload.js:345).
      const error = new Error('There is no good answer.', { cause });
      throw Object.assign(error, { originalRequest: this, originalResponse: null });
    }
  }

  async #goodAnswerTo(body: Blob | null): Promise<HttpResponse> {
    const answer = await this.#answerTo(body);
    const status = answer.getStatus();
    this.#patience.answered(status);
    if (status === 401) throw new Error('The API asks for a sign-in.');
    const telling = status < 300 || TELLING_ANSWERS_TO_HEAD.includes(status);
    if (this.getMethod() === 'HEAD' && !telling) throw new Error(`HEAD was answered ${status}.`);
    return answer;
  }

  async #answerTo(body: Blob | null): Promise<HttpResponse> {
    try {
      return await Promise.race([this.#inner.send(body), this.#stillness(body?.size ?? 0)]);
    } catch (error) {
      // A browser says no more of a file that was changed or moved than that the request failed.
      if (body !== null) await bytesOf(body.slice(0, 1));
      this.#patience.broke();
      throw error;
    } finally {
      clearTimeout(this.#giveUp);
    }
  }

  /** Rejects when nothing has moved for too long. */
  #stillness(bodyBytes: number): Promise<never> {
    return new Promise((_, reject) => {
      this.#onMoved = () => {
        clearTimeout(this.#giveUp);
        this.#giveUp = setTimeout(
          () => {
            void this.#inner.abort();
            reject(new Error('The connection stood still.'));
          },
          this.#isLast(bodyBytes) ? ANSWER_MS : STILL_MS,
        );
      };
      this.#onMoved();
    });
  }

  /** Whether what is left is the server's work. */
  #isLast(bodyBytes: number): boolean {
    return this.getMethod() === 'PATCH' ? this.#sentBytes >= bodyBytes : putsTogether(this);
  }
}

/** Whether a request names the pieces of a file, of which the server is to make one. */
export function putsTogether(request: HttpRequest): boolean {
  return request.getHeader('Upload-Concat')?.startsWith('final') === true;
}

/** The newest request to each address, by file: ends what tus-js-client leaves running when a file has failed. */
export class LiveRequests {
  readonly #isWanted: (fileId: string) => boolean;
  readonly #live = new Map<string, Map<string, HttpRequest>>();

  constructor(isWanted: (fileId: string) => boolean) {
    this.#isWanted = isWanted;
  }

  begin(fileId: string, request: HttpRequest): void {
    // Uploads of files that are not wanted any more are dropped by this.
    if (request.getMethod() === 'DELETE') return;
    if (!this.#isWanted(fileId)) return void request.abort();
    const requests = this.#live.get(fileId) ?? new Map<string, HttpRequest>();
    this.#live.set(fileId, requests.set(request.getURL(), request));
  }

  /** The file that a request is for, undefined when it is not the newest to its address. */
  fileOf(request: HttpRequest): string | undefined {
    return [...this.#live].find(([, requests]) => requests.get(request.getURL()) === request)?.[0];
  }

  end(fileId: string): void {
    for (const request of this.#live.get(fileId)?.values() ?? []) void request.abort();
    this.#live.delete(fileId);
  }
}
