/**
 * The server's notes on how to resume each file, stored under the file's fingerprint (docs/uploads.md).
 *
 * tus-js-client would keep these in the browser's storage. Kept on the server, they work from any browser.
 * tus-js-client identifies a file by a key from Uppy, the server by the fingerprint.
 */

import type { PreviousUpload, UrlStorage } from 'tus-js-client';

import { addressOf, pathBelow } from '../api/address';
import type { Api, UploadState } from '../api/client';
import type { Resumption } from '../api/types';
import { fingerprint, titledKey } from './file';
import type { RetryPolicy } from './retrying';

interface Known {
  /** The server's keys for the note: that of the title, if one was given, and the fingerprint. */
  keys: string[];
  previous: PreviousUpload | null;
  /** The last write. Each write waits for the one before, to keep their order. */
  written: Promise<void>;
}

/** What the server has of a file. */
export interface Earlier {
  previous: PreviousUpload;
  complete: boolean;
  /** null: none, or unknown. */
  title: string | null;
}

export class Resumptions implements UrlStorage {
  readonly #api: Api;
  readonly #retryPolicy: RetryPolicy;
  readonly #root: string;
  readonly #files = new Map<string, Known>();

  constructor(api: Api, retryPolicy: RetryPolicy, root: string) {
    this.#api = api;
    this.#retryPolicy = retryPolicy;
    this.#root = root;
  }

  /**
   * Find the earlier upload of a file. `title` is null unless the user gave one. A complete upload with another title is
   * another video, so it is not found.
   *
   * Raises ApiError if the file cannot be read or the server refuses to answer.
   */
  async lookUp(key: string, file: Blob, title: string | null): Promise<Earlier | null> {
    const plain = await fingerprint(file);
    const keys = title === null ? [plain] : [titledKey(plain, title), plain];
    const known: Known = { keys, previous: null, written: Promise.resolve() };
    this.#files.set(key, known);
    for (const noteKey of keys) {
      const note = await this.#retryPolicy.retry(() => this.#api.resumption(noteKey));
      if (note === null) continue;
      const previous = this.#previous(key, note);
      const states = await Promise.all(urlsOf(previous).map((url) => this.#state(url)));
      // One missing part makes the note useless: tus-js-client would replace the part without updating the note.
      if (!states.every((state) => state !== null)) continue;
      const complete = states.every((state) => state.complete);
      // Parts do not tell their title.
      const itsTitle = previous.parallelUploadUrls === null ? (states[0]?.title ?? null) : null;
      const isSame = title === null || itsTitle === title || (itsTitle === null && noteKey !== plain);
      if (complete && !isSame) continue;
      known.previous = previous;
      return { previous, complete, title: itsTitle };
    }
    return null;
  }

  #state(url: string): Promise<UploadState | null> {
    return this.#retryPolicy.retry(() => this.#api.upload(this.#pathOf(url)));
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
      urlsOf(previous).map((url) => this.#retryPolicy.retry(() => this.#api.discardUpload(this.#pathOf(url)))),
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
        upload_url: previous.uploadUrl ? this.#pathOf(previous.uploadUrl) : null,
        parallel_upload_urls: previous.parallelUploadUrls?.map((url) => this.#pathOf(url)) ?? null,
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
      const writeWithRetries = async () => {
        await Promise.all(known.keys.map((id) => this.#retryPolicy.retry(() => write(id))));
      };
      known.written = known.written.then(writeWithRetries).catch(() => undefined);
      await known.written;
    }
    return key;
  }

  /**
   * Notes hold paths only, because one server may be reached by several names and below several paths. A guest's link
   * stays out of them.
   */
  #pathOf(url: string): string {
    return pathBelow(url, this.#root).replace(/\?.*/, '');
  }

  #previous(key: string, note: Resumption): PreviousUpload {
    const absolute = (url: string) => addressOf(this.#api.linked(url), this.#root);
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
