/**
 * The HTTP layer of tus-js-client, changed so that no failed request discards what has been uploaded.
 *
 * A request first waits for the sign-in and, after a failure, for the network. A stalled request is aborted, because a
 * browser does not notice when the network changes under a connection. Only 404 and 410 mean that an upload is gone:
 * tus-js-client would start over after any failed HEAD, including 401 and 503.
 */

import type { HttpRequest, HttpResponse, HttpStack } from 'tus-js-client';

import { ApiError } from '../api/errors';
import { readBytes } from './file';
import { type BodyLimit, isFromProxy } from './limit';
import type { RetryPolicy } from './retrying';

const STALLED_MS = 120_000;
/** The server may need to assemble a large file before it responds. */
const ASSEMBLY_MS = 900_000;
/** Failed HEAD responses that tus-js-client handles correctly. */
const PASSED_ON_FROM_HEAD = [404, 410, 423];

/** Called with the number of bytes sent since the last call. */
type OnSent = (bytes: number) => void;

export class ResilientHttpStack implements HttpStack {
  readonly #inner: HttpStack;
  readonly #retryPolicy: RetryPolicy;
  readonly #limit: BodyLimit;
  readonly #onSent: OnSent;

  constructor(inner: HttpStack, retryPolicy: RetryPolicy, limit: BodyLimit, onSent: OnSent) {
    this.#inner = inner;
    this.#retryPolicy = retryPolicy;
    this.#limit = limit;
    this.#onSent = onSent;
  }

  createRequest(method: string, url: string): HttpRequest {
    return new ResilientRequest(() => this.#inner.createRequest(method, url), this.#retryPolicy, this.#limit, this.#onSent);
  }

  getName(): string {
    return 'ResilientHttpStack';
  }
}

class ResilientRequest implements HttpRequest {
  readonly #create: () => HttpRequest;
  readonly #retryPolicy: RetryPolicy;
  readonly #limit: BodyLimit;
  readonly #onSent: OnSent;
  readonly #headers = new Map<string, string>();
  #inner: HttpRequest;
  #aborted = false;
  #sentBytes = 0;
  #stallTimer: ReturnType<typeof setTimeout> | undefined;
  #onProgress: () => void = () => undefined;
  #progressHandler: (bytesSent: number) => void = () => undefined;

  constructor(create: () => HttpRequest, retryPolicy: RetryPolicy, limit: BodyLimit, onSent: OnSent) {
    this.#create = create;
    this.#inner = create();
    this.#retryPolicy = retryPolicy;
    this.#limit = limit;
    this.#onSent = onSent;
  }

  getMethod(): string {
    return this.#inner.getMethod();
  }

  getURL(): string {
    return this.#inner.getURL();
  }

  setHeader(header: string, value: string): void {
    this.#headers.set(header, value);
    this.#inner.setHeader(header, value);
  }

  getHeader(header: string): string | undefined {
    return this.#inner.getHeader(header);
  }

  getUnderlyingObject(): unknown {
    return this.#inner.getUnderlyingObject();
  }

  setProgressHandler(handler: (bytesSent: number) => void): void {
    this.#progressHandler = handler;
    this.#inner.setProgressHandler((bytesSent) => {
      this.#onSent(bytesSent - this.#sentBytes);
      this.#sentBytes = bytesSent;
      this.#onProgress();
      handler(bytesSent);
    });
  }

  /** Like XMLHttpRequest, an aborted request never settles. */
  async abort(): Promise<void> {
    this.#aborted = true;
    clearTimeout(this.#stallTimer);
    await this.#inner.abort();
  }

  async send(body: Blob | null): Promise<HttpResponse> {
    await this.#retryPolicy.ready();
    if (this.#aborted) return new Promise(() => undefined);
    try {
      return await this.#withinLimit(body);
    } catch (cause) {
      // tus-js-client retries errors that name their request (upload.js:1030), but does not name the request that
      // concatenates the parts (upload.js:345).
      const error = new Error('The request failed.', { cause });
      throw Object.assign(error, { originalRequest: this, originalResponse: null });
    }
  }

  /** Send the beginning of the body that gets through. tus-js-client sends what is missing after it. */
  async #withinLimit(body: Blob | null): Promise<HttpResponse> {
    for (;;) {
      const part = body !== null && body.size > this.#limit.bytes ? body.slice(0, this.#limit.bytes) : body;
      const response = await this.#usableResponse(part);
      if (part === null || response.getStatus() !== 413 || !isFromProxy(413, response.getBody())) return response;
      if (!this.#limit.refused(part.size)) return response;
      this.#renew();
      if (this.#aborted) return new Promise(() => undefined);
    }
  }

  /** A request can be sent only once. */
  #renew(): void {
    this.#inner = this.#create();
    this.#sentBytes = 0;
    this.#headers.forEach((value, header) => this.#inner.setHeader(header, value));
    this.setProgressHandler(this.#progressHandler);
  }

  async #usableResponse(body: Blob | null): Promise<HttpResponse> {
    const response = await this.#response(body);
    const status = response.getStatus();
    this.#retryPolicy.answered(status);
    if (status !== 413 && isFromProxy(status, response.getBody())) this.#failed(body);
    if (status === 401) throw new Error('The API requires a sign-in.');
    if (this.getMethod() === 'HEAD' && status === 403 && this.getURL().includes('upload_link=')) {
      throw new ApiError('upload_link_rejected', status, 'The link has ended.');
    }
    if (this.getMethod() === 'HEAD' && status >= 300 && !PASSED_ON_FROM_HEAD.includes(status)) {
      throw new Error(`HEAD was answered with ${status}.`);
    }
    return response;
  }

  async #response(body: Blob | null): Promise<HttpResponse> {
    try {
      return await Promise.race([this.#inner.send(body), this.#stalled(body?.size ?? 0)]);
    } catch (error) {
      // For a file that was changed or moved, the browser only reports that the request failed.
      if (body !== null) await readBytes(body.slice(0, 1));
      this.#retryPolicy.unanswered();
      this.#failed(body);
      throw error;
    } finally {
      clearTimeout(this.#stallTimer);
    }
  }

  #failed(body: Blob | null): void {
    const offset = this.#headers.get('Upload-Offset');
    if (body !== null && offset !== undefined) this.#limit.failed(this.getURL(), offset, body.size);
  }

  /** Rejects after too long without progress. */
  #stalled(bodyBytes: number): Promise<never> {
    return new Promise((_, reject) => {
      this.#onProgress = () => {
        clearTimeout(this.#stallTimer);
        this.#stallTimer = setTimeout(
          () => {
            void this.#inner.abort();
            reject(new Error('The connection stalled.'));
          },
          this.#awaitsAssembly(bodyBytes) ? ASSEMBLY_MS : STALLED_MS,
        );
      };
      this.#onProgress();
    });
  }

  /** Whether everything is sent and the server may be assembling the file. */
  #awaitsAssembly(bodyBytes: number): boolean {
    return this.getMethod() === 'PATCH' ? this.#sentBytes >= bodyBytes : isConcatenation(this);
  }
}

/** Whether a request asks the server to join the parts of a file. */
export function isConcatenation(request: HttpRequest): boolean {
  return request.getHeader('Upload-Concat')?.startsWith('final') === true;
}

/** The latest request to each URL, by file. Aborts what tus-js-client leaves running after a file has failed. */
export class LiveRequests {
  readonly #isWanted: (fileId: string) => boolean;
  readonly #live = new Map<string, Map<string, HttpRequest>>();

  constructor(isWanted: (fileId: string) => boolean) {
    this.#isWanted = isWanted;
  }

  begin(fileId: string, request: HttpRequest): void {
    // DELETE discards the upload of a file that is no longer wanted, so it must be sent.
    if (request.getMethod() === 'DELETE') return;
    if (!this.#isWanted(fileId)) return void request.abort();
    const requests = this.#live.get(fileId) ?? new Map<string, HttpRequest>();
    this.#live.set(fileId, requests.set(request.getURL(), request));
  }

  /** The file that a request belongs to, or undefined if a newer request to its URL exists. */
  fileOf(request: HttpRequest): string | undefined {
    return [...this.#live].find(([, requests]) => requests.get(request.getURL()) === request)?.[0];
  }

  end(fileId: string): void {
    for (const request of this.#live.get(fileId)?.values() ?? []) void request.abort();
    this.#live.delete(fileId);
  }
}
