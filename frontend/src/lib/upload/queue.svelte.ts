/** The files that wait for their upload or had it; one is sent at a time. */

import { ApiError } from '../api/errors';
import { titleOf } from '../format';
import { SpeedMeter } from './speed';
import type { UploadTransport } from './transport';

export type UploadState = 'waiting' | 'sending' | 'storing' | 'done' | 'failed';

/** One file: what its row on the page shows. */
export class UploadItem {
  readonly key: number;
  readonly file: File;
  title = $state('');
  state = $state<UploadState>('waiting');
  sentBytes = $state(0);
  bytesPerSecond = $state<number | null>(null);
  secondsLeft = $state<number | null>(null);
  error = $state.raw<unknown>(null);
  videoId = $state<string | null>(null);
  watchUrl = $state<string | null>(null);

  constructor(key: number, file: File) {
    this.key = key;
    this.file = file;
    this.title = titleOf(file.name);
  }

  get fraction(): number {
    if (this.state === 'done') return 1;
    return this.file.size === 0 ? 0 : Math.min(1, this.sentBytes / this.file.size);
  }
}

export interface UploadEvents {
  /** The bytes are on the server; the title sent with them may have been edited since. */
  onUploaded: (item: UploadItem, sentTitle: string) => void;
  /** The API wants a sign-in first. */
  onUnauthorized: () => void;
}

export class UploadQueue {
  items = $state<UploadItem[]>([]);

  readonly #transport: UploadTransport;
  readonly #events: UploadEvents;
  #nextKey = 1;
  #sending: { item: UploadItem; abort: AbortController } | null = null;

  constructor(transport: UploadTransport, events: UploadEvents) {
    this.#transport = transport;
    this.#events = events;
  }

  get busy(): boolean {
    return this.items.some((item) => ['waiting', 'sending', 'storing'].includes(item.state));
  }

  add(files: Iterable<File>): void {
    for (const file of files) this.items.push(new UploadItem(this.#nextKey++, file));
    void this.#run();
  }

  /** Take the item off the list, stopping its upload if it is under way. */
  remove(item: UploadItem): void {
    this.items = this.items.filter((other) => other.key !== item.key);
    if (this.#sending?.item.key === item.key) this.#sending.abort.abort();
  }

  retry(item: UploadItem): void {
    if (item.state !== 'failed') return;
    item.state = 'waiting';
    void this.#run();
  }

  /** After a sign-in: send again what was refused for the lack of it. */
  retryRefused(): void {
    for (const item of this.items) {
      if (item.error instanceof ApiError && item.error.code === 'unauthorized') this.retry(item);
    }
  }

  async #run(): Promise<void> {
    if (this.#sending !== null) return;
    for (let item = this.#next(); item !== undefined; item = this.#next()) {
      const abort = new AbortController();
      this.#sending = { item, abort };
      await this.#send(item, abort.signal);
      this.#sending = null;
    }
  }

  #next(): UploadItem | undefined {
    return this.items.find((item) => item.state === 'waiting');
  }

  async #send(item: UploadItem, signal: AbortSignal): Promise<void> {
    const meter = new SpeedMeter(item.file.size);
    const title = item.title.trim();
    Object.assign(item, { state: 'sending', error: null, sentBytes: 0, bytesPerSecond: null, secondsLeft: null });
    meter.record(0, performance.now());
    try {
      if (item.file.size === 0) throw new ApiError('empty_upload', 400, 'The upload is empty.');
      const answer = await this.#transport({
        file: item.file,
        title,
        signal,
        onProgress: (sentBytes) => {
          meter.record(sentBytes, performance.now());
          item.sentBytes = sentBytes;
          item.bytesPerSecond = meter.bytesPerSecond;
          item.secondsLeft = meter.secondsLeft;
          // All bytes have left the browser; the server still completes the object.
          if (sentBytes >= item.file.size) item.state = 'storing';
        },
      });
      Object.assign(item, { state: 'done', videoId: answer.id, watchUrl: answer.watch_url });
      this.#events.onUploaded(item, title);
    } catch (error) {
      item.error = error;
      item.state = 'failed';
      if (error instanceof ApiError && error.status === 401) this.#events.onUnauthorized();
    }
  }
}
