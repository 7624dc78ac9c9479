/**
 * The server's notes on how to resume each file, stored under the file's fingerprint (docs/uploads.md).
 *
 * tus-js-client would keep these in the browser's storage. Kept on the server, they work from any browser.
 * tus-js-client identifies a file by a key from Uppy, the server by the fingerprint.
 */

import type { PreviousUpload, UrlStorage } from 'tus-js-client';

import type { Api } from '../api/client';
import type { Resumption } from '../api/types';
import { fingerprint } from './file';
import type { RetryPolicy } from './retrying';

interface Known {
  fingerprint: string;
  previous: PreviousUpload | null;
  /** The last write. Each write waits for the one before, to keep their order. */
  written: Promise<void>;
}

export class Resumptions implements UrlStorage {
  readonly #api: Api;
  readonly #retryPolicy: RetryPolicy;
  readonly #origin: string;
  readonly #files = new Map<string, Known>();

  constructor(api: Api, retryPolicy: RetryPolicy, origin: string) {
    this.#api = api;
    this.#retryPolicy = retryPolicy;
    this.#origin = origin;
  }

  /** Ask the server about a file. Raises ApiError if the file cannot be read or the server refuses to answer. */
  async lookUp(key: string, file: Blob): Promise<PreviousUpload | null> {
    const known: Known = { fingerprint: await fingerprint(file), previous: null, written: Promise.resolve() };
    this.#files.set(key, known);
    const note = await this.#retryPolicy.retry(() => this.#api.resumption(known.fingerprint));
    const previous = note === null ? null : this.#previous(key, note);
    // One missing part makes the note useless: tus-js-client would replace the part without updating the note.
    const urls = previous === null ? [] : urlsOf(previous);
    const found = await Promise.all(urls.map((url) => this.#retryPolicy.retry(() => this.#api.hasUpload(pathOf(url)))));
    if (found.every(Boolean)) known.previous = previous;
    return known.previous;
  }

  /** What the last look-up or write left, without asking the server. */
  known(key: string): PreviousUpload | null {
    return this.#files.get(key)?.previous ?? null;
  }

  /** Delete the note and everything uploaded so far, because the user cancelled the file. */
  async discard(key: string): Promise<void> {
    const previous = this.known(key);
    if (previous === null) return;
    await this.removeUpload(key);
    await Promise.all(
      urlsOf(previous).map((url) => this.#retryPolicy.retry(() => this.#api.discardUpload(pathOf(url)))),
    );
  }

  findAllUploads(): Promise<PreviousUpload[]> {
    return Promise.resolve([...this.#files.values()].flatMap((known) => known.previous ?? []));
  }

  findUploadsByFingerprint(key: string): Promise<PreviousUpload[]> {
    const previous = this.known(key);
    return Promise.resolve(previous === null ? [] : [previous]);
  }

  addUpload(key: string, upload: PreviousUpload): Promise<string> {
    const previous = { ...upload, urlStorageKey: key };
    return this.#write(key, previous, (id) =>
      this.#api.noteResumption(id, {
        upload_url: previous.uploadUrl ? pathOf(previous.uploadUrl) : null,
        parallel_upload_urls: previous.parallelUploadUrls?.map(pathOf) ?? null,
        size_bytes: previous.size,
      }),
    );
  }

  async removeUpload(key: string): Promise<void> {
    await this.#write(key, null, (id) => this.#api.forgetResumption(id));
  }

  /** The upload works without its note, so a failed write is not an error. */
  async #write(key: string, previous: PreviousUpload | null, write: (id: string) => Promise<void>): Promise<string> {
    const known = this.#files.get(key);
    if (known !== undefined) {
      known.previous = previous;
      const writeWithRetries = () => this.#retryPolicy.retry(() => write(known.fingerprint));
      known.written = known.written.then(writeWithRetries).catch(() => undefined);
      await known.written;
    }
    return key;
  }

  #previous(key: string, note: Resumption): PreviousUpload {
    const absolute = (url: string) => new URL(pathOf(url), this.#origin).href;
    return {
      size: note.size_bytes,
      metadata: {},
      creationTime: '',
      urlStorageKey: key,
      uploadUrl: note.upload_url === null ? null : absolute(note.upload_url),
      parallelUploadUrls: note.parallel_upload_urls?.map(absolute) ?? null,
    };
  }
}

function urlsOf(previous: PreviousUpload): string[] {
  return previous.parallelUploadUrls ?? (previous.uploadUrl === null ? [] : [previous.uploadUrl]);
}

/** Notes hold paths only, because one server may be reached by several host names. */
function pathOf(url: string): string {
  return new URL(url, 'http://localhost').pathname;
}
