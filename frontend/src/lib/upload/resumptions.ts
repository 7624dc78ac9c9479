/**
 * How to go on with a file, as the server has it noted under the file's fingerprint (docs/uploads.md).
 *
 * What tus-js-client keeps in the browser's storage is kept by the server here, so that it holds for every browser. The
 * file is known to tus-js-client by a key of Uppy's, and to the server by its fingerprint.
 */

import type { PreviousUpload, UrlStorage } from 'tus-js-client';

import type { Api } from '../api/client';
import type { Resumption } from '../api/types';
import { fingerprint } from './fingerprint';
import type { Patience } from './patience';

interface Known {
  fingerprint: string;
  previous: PreviousUpload | null;
  /** The last write, so that they arrive in their order. */
  written: Promise<void>;
}

export class Resumptions implements UrlStorage {
  readonly #api: Api;
  readonly #patience: Patience;
  readonly #origin: string;
  readonly #files = new Map<string, Known>();

  constructor(api: Api, patience: Patience, origin: string) {
    this.#api = api;
    this.#patience = patience;
    this.#origin = origin;
  }

  /** Ask the server about a file. Raises ApiError: it cannot be read, or the server will not say. */
  async learn(key: string, file: Blob): Promise<PreviousUpload | null> {
    const known: Known = { fingerprint: await fingerprint(file), previous: null, written: Promise.resolve() };
    this.#files.set(key, known);
    const note = await this.#patience.until(() => this.#api.resumption(known.fingerprint));
    const previous = note === null ? null : this.#previous(key, note);
    // Pieces were announced together and expire together, and tus-js-client does not note new ones.
    const urls = previous === null ? [] : urlsOf(previous);
    const there = await Promise.all(urls.map((url) => this.#patience.until(() => this.#api.hasUpload(pathOf(url)))));
    if (there.every(Boolean)) known.previous = previous;
    return known.previous;
  }

  /** What is known of a file without asking. */
  known(key: string): PreviousUpload | null {
    return this.#files.get(key)?.previous ?? null;
  }

  /** The file is not to be uploaded after all: drop what was sent of it. */
  async drop(key: string): Promise<void> {
    const previous = this.known(key);
    if (previous === null) return;
    await this.removeUpload(key);
    await Promise.all(urlsOf(previous).map((url) => this.#patience.until(() => this.#api.dropUpload(pathOf(url)))));
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

  /** An upload goes on without its note, so that failing to write it is no error. */
  async #write(key: string, previous: PreviousUpload | null, write: (id: string) => Promise<void>): Promise<string> {
    const known = this.#files.get(key);
    if (known !== undefined) {
      known.previous = previous;
      const patiently = () => this.#patience.until(() => write(known.fingerprint));
      known.written = known.written.then(patiently).catch(() => undefined);
      await known.written;
    }
    return key;
  }

  #previous(key: string, note: Resumption): PreviousUpload {
    const here = (url: string) => new URL(pathOf(url), this.#origin).href;
    return {
      size: note.size_bytes,
      metadata: {},
      creationTime: '',
      urlStorageKey: key,
      uploadUrl: note.upload_url === null ? null : here(note.upload_url),
      parallelUploadUrls: note.parallel_upload_urls?.map(here) ?? null,
    };
  }
}

function urlsOf(previous: PreviousUpload): string[] {
  return previous.parallelUploadUrls ?? (previous.uploadUrl === null ? [] : [previous.uploadUrl]);
}

/** Notes hold paths: the same server may have several names. */
function pathOf(url: string): string {
  return new URL(url, 'http://localhost').pathname;
}
