import type { DetailedError, HttpRequest, HttpResponse, HttpStack, PreviousUpload } from 'tus-js-client';
import { beforeEach, describe, expect, it, vi } from 'vitest';

import { Api } from '../src/api/client';
import { ApiError } from '../src/api/errors';
import type { Resumption } from '../src/api/types';
import { SignInGate } from '../src/session/gate';
import { isRetryable, toApiError } from '../src/upload/failures';
import { fingerprint } from '../src/upload/file';
import { LiveRequests, ResilientHttpStack } from '../src/upload/http';
import { BodyLimit } from '../src/upload/limit';
import { RetryPolicy } from '../src/upload/retrying';
import { Resumptions } from '../src/upload/resumptions';
import { SpeedMeter } from '../src/upload/speed';

const settle = () => new Promise((resolve) => setTimeout(resolve));
const immediately = () => Promise.resolve();
const sha256 = async (bytes: Uint8Array<ArrayBuffer>) =>
  Buffer.from(await crypto.subtle.digest('SHA-256', bytes)).toString('hex');

describe('fingerprint', () => {
  const MIB = 1024 * 1024;

  it('covers the whole of a small file, and its size', async () => {
    expect(await fingerprint(new Blob(['abc']))).toBe(await sha256(new TextEncoder().encode('vodbucket-1\n3\nabc')));
  });

  it.each([2 * MIB, 2 * MIB + 1, 5 * MIB])('covers the first and last MiB of %i bytes', async (size) => {
    const bytes = Uint8Array.from({ length: size }, (_, index) => (index * 31 + (index >> 13)) % 251);
    const head = new TextEncoder().encode(`vodbucket-1\n${size}\n`);
    const hashed = Buffer.concat([head, bytes.subarray(0, MIB), bytes.subarray(size - MIB)]);
    expect(await fingerprint(new Blob([bytes]))).toBe(await sha256(Uint8Array.from(hashed)));
  });
});

describe('the sign-in gate', () => {
  it('asks once, holds all requests until the sign-in, and can close again', async () => {
    const ask = vi.fn();
    const gate = new SignInGate(ask);
    await gate.through();

    gate.close();
    gate.close();
    let passed = 0;
    for (let request = 0; request < 3; request += 1) void gate.through().then(() => (passed += 1));
    await settle();
    expect([ask.mock.calls.length, passed]).toEqual([1, 0]);

    gate.open();
    await settle();
    expect(passed).toBe(3);
    gate.close();
    expect(ask).toHaveBeenCalledTimes(2);
  });
});

describe('the retry policy', () => {
  it('retries temporary failures, and after a sign-in', async () => {
    const gate: SignInGate = new SignInGate(() => setTimeout(() => gate.open()));
    const retryPolicy = new RetryPolicy(gate, immediately, immediately);
    const answers = [
      new ApiError('network', 0, ''),
      new ApiError('store_unavailable', 503, ''),
      new ApiError('unauthorized', 401, ''),
      new ApiError('upload_locked', 423, ''),
      new ApiError('unexpected_answer', 429, ''),
      new ApiError('unexpected_answer', 200, 'a Wi-Fi login page'),
    ];
    await expect(retryPolicy.retry(() => (answers.length > 0 ? Promise.reject(answers.shift()) : Promise.resolve(7)))).resolves.toBe(7);
  });

  it.each([
    [400, 'note_too_large'],
    [404, 'upload_not_found'],
    [410, 'upload_expired'],
    [0, 'file_unreadable'],
  ])('does not retry after %i %s', async (status, code) => {
    const retryPolicy = new RetryPolicy(new SignInGate(() => undefined), immediately, immediately);
    const final = new ApiError(code, status, '');
    await expect(retryPolicy.retry(() => Promise.reject(final))).rejects.toBe(final);
  });

  it.each(['the browser', 'a timeout'])('stops listening for the network once %s ends the wait', async (who) => {
    vi.useFakeTimers();
    const window = new EventTarget();
    const removed = vi.fn();
    window.addEventListener = (type, listener, options) => {
      (options as AddEventListenerOptions).signal!.addEventListener('abort', removed);
      EventTarget.prototype.addEventListener.call(window, type, listener, options);
    };
    vi.stubGlobal('window', window);
    vi.stubGlobal('navigator', { onLine: false });
    try {
      const retryPolicy = new RetryPolicy(new SignInGate(() => undefined));
      retryPolicy.unanswered();
      const ready = retryPolicy.ready();
      await vi.advanceTimersByTimeAsync(0);
      expect(removed).not.toHaveBeenCalled();
      if (who === 'the browser') window.dispatchEvent(new Event('online'));
      else await vi.advanceTimersByTimeAsync(30_000);
      await ready;
      expect(removed).toHaveBeenCalledOnce();
    } finally {
      vi.unstubAllGlobals();
      vi.useRealTimers();
    }
  });
});

it('waits for the network only after a failure, because browsers may wrongly report being offline', async () => {
  const online = vi.fn(immediately);
  const retryPolicy = new RetryPolicy(new SignInGate(() => undefined), online, immediately);
  await retryPolicy.retry(() => Promise.resolve());
  expect(online).not.toHaveBeenCalled();

  const failures = [new ApiError('network', 0, ''), new ApiError('store_unavailable', 503, '')];
  await retryPolicy.retry(() => (failures.length > 0 ? Promise.reject(failures.shift()) : Promise.resolve()));
  expect(online).toHaveBeenCalledOnce();
});

/** An HTTP stack whose requests the test answers. */
class Wire implements HttpStack {
  readonly sent: WireRequest[] = [];

  getName() {
    return 'Wire';
  }

  createRequest(method: string, url: string): HttpRequest {
    return new WireRequest(method, url, this);
  }
}

class WireRequest implements HttpRequest {
  aborted = false;
  readonly headers = new Map<string, string>();
  progress: (bytes: number) => void = () => undefined;
  answer!: (status: number) => void;
  fail!: (reason: unknown) => void;

  constructor(
    readonly method: string,
    readonly url: string,
    readonly wire: Wire,
  ) {}

  getMethod = () => this.method;
  getURL = () => this.url;
  setHeader = (name: string, value: string) => void this.headers.set(name, value);
  getHeader = (name: string) => this.headers.get(name);
  getUnderlyingObject = () => undefined;

  setProgressHandler(handler: (bytes: number) => void) {
    this.progress = handler;
  }

  send(): Promise<HttpResponse> {
    this.wire.sent.push(this);
    return new Promise((resolve, reject) => {
      this.fail = reject;
      this.answer = (status) =>
        resolve({ getStatus: () => status, getHeader: () => undefined, getBody: () => '', getUnderlyingObject: () => undefined });
    });
  }

  abort() {
    this.aborted = true;
    return Promise.resolve();
  }
}

describe('an upload request', () => {
  let wire: Wire;
  let gate: SignInGate;
  let stack: ResilientHttpStack;
  let limit: BodyLimit;
  let sentBytes: number;
  let outcome: unknown;

  beforeEach(() => {
    wire = new Wire();
    gate = new SignInGate(() => undefined);
    sentBytes = 0;
    outcome = 'none';
    limit = new BodyLimit(null, '');
    stack = new ResilientHttpStack(wire, new RetryPolicy(gate, immediately, immediately), limit, (bytes) => (sentBytes += bytes));
  });

  function send(method: string, body: Blob | null = null, headers: Record<string, string> = {}): HttpRequest {
    const request = stack.createRequest(method, '/api/uploads/1');
    for (const [name, value] of Object.entries(headers)) request.setHeader(name, value);
    request.setProgressHandler(() => undefined);
    request.send(body).then(
      (answer) => (outcome = answer.getStatus()),
      (error: unknown) => (outcome = error),
    );
    return request;
  }

  it.each(['HEAD', 'PATCH', 'POST'])('waits for the sign-in after a 401 (%s)', async (method) => {
    send(method);
    await settle();
    wire.sent[0]!.answer(401);
    await settle();
    expect(outcome).toBeInstanceOf(Error);
    expect(gate.closed).toBe(true);

    send(method);
    await settle();
    expect(wire.sent).toHaveLength(1);
    gate.open();
    await settle();
    wire.sent[1]!.answer(204);
    await settle();
    expect(outcome).toBe(204);
  });

  it('passes on only 404, 410 and 423 as failed responses to HEAD', async () => {
    for (const status of [200, 404, 410, 423]) {
      send('HEAD');
      await settle();
      wire.sent.at(-1)!.answer(status);
      await settle();
      expect(outcome).toBe(status);
    }
    for (const status of [400, 403, 429, 500, 502, 503]) {
      send('HEAD');
      await settle();
      wire.sent.at(-1)!.answer(status);
      await settle();
      expect(outcome).toBeInstanceOf(Error);
    }
  });

  it('is never sent if it was aborted while waiting', async () => {
    gate.close();
    const request = send('PATCH', new Blob(['abc']));
    await request.abort();
    gate.open();
    await settle();
    expect([wire.sent.length, outcome]).toEqual([0, 'none']);
  });

  it('counts the bytes sent', async () => {
    send('PATCH', new Blob(['abcdef']));
    await settle();
    wire.sent[0]!.progress(2);
    wire.sent[0]!.progress(6);
    expect(sentBytes).toBe(6);
  });

  it('is aborted after two minutes without progress, or fifteen without a response', async () => {
    vi.useFakeTimers();
    try {
      send('PATCH', new Blob(['abcdef']));
      await vi.advanceTimersByTimeAsync(100_000);
      wire.sent[0]!.progress(2);
      await vi.advanceTimersByTimeAsync(100_000);
      expect(outcome).toBe('none');
      await vi.advanceTimersByTimeAsync(20_000);
      expect(outcome).toBeInstanceOf(Error);
      expect(wire.sent[0]!.aborted).toBe(true);

      outcome = 'none';
      send('PATCH', new Blob(['abcdef']));
      await vi.advanceTimersByTimeAsync(0);
      wire.sent[1]!.progress(6);
      await vi.advanceTimersByTimeAsync(890_000);
      expect(outcome).toBe('none');
      await vi.advanceTimersByTimeAsync(10_000);
      expect(outcome).toBeInstanceOf(Error);
    } finally {
      vi.useRealTimers();
    }
  });

  it.each([
    ['HEAD', {}, 120_000],
    ['POST', {}, 120_000],
    ['POST', { 'Upload-Concat': 'partial' }, 120_000],
    ['POST', { 'Upload-Concat': 'final;/1 /2' }, 900_000],
  ] as const)('without a body is aborted after its timeout (%s, %o)', async (method, headers, afterMs) => {
    vi.useFakeTimers();
    try {
      send(method, null, headers);
      await vi.advanceTimersByTimeAsync(afterMs - 1);
      expect(outcome).toBe('none');
      await vi.advanceTimersByTimeAsync(1);
      expect(outcome).toBeInstanceOf(Error);
    } finally {
      vi.useRealTimers();
    }
  });

  it('is aborted when its file has failed', () => {
    let wanted = true;
    const requests = new LiveRequests(() => wanted);
    const [first, second, late] = ['/1', '/2', '/1'].map((url) => wire.createRequest('PATCH', url) as WireRequest);
    requests.begin('file', first!);
    requests.begin('file', second!);
    expect([first, second, late].map((request) => requests.fileOf(request!))).toEqual(['file', 'file', undefined]);
    requests.end('file');
    wanted = false;
    requests.begin('file', late!);
    expect([first, second, late].map((request) => request!.aborted)).toEqual([true, true, true]);
    expect([first, second, late].map((request) => requests.fileOf(request!))).toEqual([undefined, undefined, undefined]);
  });

  it('that deletes an upload is not aborted with its file', () => {
    const requests = new LiveRequests(() => false);
    const drop = wire.createRequest('DELETE', '/1') as WireRequest;
    requests.begin('file', drop);
    expect([drop.aborted, requests.fileOf(drop)]).toEqual([false, undefined]);
  });
});

describe('a failure', () => {
  const answered = (status: number, body = ''): DetailedError =>
    Object.assign(new Error('tus: …') as DetailedError, {
      originalResponse: { getStatus: () => status, getHeader: () => undefined, getBody: () => body, getUnderlyingObject: () => undefined },
    });
  const coded = (status: number, code: string) => answered(status, JSON.stringify({ error: 'No.', code }));

  it('without a response is a network failure, and is retried', () => {
    const problem = toApiError(Object.assign(new Error('x') as DetailedError, { originalResponse: null }));
    expect(problem.code).toBe('network');
    expect(isRetryable(problem)).toBe(true);
  });

  it.each([200, 401, 404, 409, 410, 423, 429, 460, 500, 502, 503, 504])('with %i is retried', (status) => {
    expect(isRetryable(toApiError(answered(status)))).toBe(true);
  });

  it.each([
    [400, 'bad_request'],
    [413, 'upload_too_large'],
    [415, 'unsupported_type'],
    [429, 'too_many_uploads'],
    [507, 'storage_full'],
  ])('with %i %s is final', (status, code) => {
    expect(isRetryable(toApiError(coded(status, code)))).toBe(false);
  });
});

/** A server's notes, where the first calls may fail. */
class Notes extends Api {
  readonly notes = new Map<string, Resumption>();
  readonly calls: string[] = [];
  readonly gone = new Set<string>();
  failures: ApiError[] = [];

  async #called(call: string): Promise<void> {
    const failure = this.failures.shift();
    if (failure !== undefined) throw failure;
    this.calls.push(call);
  }

  override async resumption(id: string) {
    await this.#called('get');
    return this.notes.get(id) ?? null;
  }

  override async noteResumption(id: string, note: Resumption) {
    await this.#called('put');
    this.notes.set(id, note);
  }

  override async forgetResumption(id: string) {
    await this.#called('delete');
    this.notes.delete(id);
  }

  override async upload(path: string) {
    await this.#called(`head ${path}`);
    return this.gone.has(path) ? null : { complete: false, title: null };
  }

  override async discardUpload(path: string) {
    await this.#called(`drop ${path}`);
  }
}

describe('resumptions', () => {
  const file = new Blob(['film']);
  const upload = (urls: Partial<PreviousUpload>): PreviousUpload => ({
    size: 4,
    metadata: {},
    creationTime: '',
    urlStorageKey: '',
    uploadUrl: null,
    parallelUploadUrls: null,
    ...urls,
  });
  let notes: Notes;
  const browser = (origin = 'https://vod.example') =>
    new Resumptions(notes, new RetryPolicy(new SignInGate(() => undefined), immediately, immediately), origin);

  beforeEach(() => {
    notes = new Notes('https://vod.example/');
  });

  it('are found by another browser, under another host name of the server', async () => {
    const here = browser();
    expect(await here.lookUp('a', file, null)).toBeNull();
    await here.addUpload('a', upload({ uploadUrl: 'https://vod.example/api/uploads/1' }));

    const there = browser('http://10.0.0.2:3000');
    await there.lookUp('b', new Blob(['film']), null);
    const found = await there.findUploadsByFingerprint('b');
    expect(found.map((previous) => [previous.uploadUrl, previous.urlStorageKey])).toEqual([
      ['http://10.0.0.2:3000/api/uploads/1', 'b'],
    ]);
    expect(await there.findUploadsByFingerprint('c')).toEqual([]);
  });

  it('list the parts in order, unless one of them is gone', async () => {
    const urls = [1, 2, 3].map((part) => `https://vod.example/api/uploads/${part}`);
    const here = browser();
    await here.lookUp('a', file, null);
    await here.addUpload('a', upload({ parallelUploadUrls: urls }));
    expect((await browser().lookUp('b', file, null))?.previous.parallelUploadUrls).toEqual(urls);

    notes.gone.add('/api/uploads/2');
    expect(await browser().lookUp('b', file, null)).toBeNull();
  });

  it('are written in order despite network failures', async () => {
    const here = browser();
    await here.lookUp('a', file, null);
    notes.calls.length = 0;
    notes.failures = [new ApiError('network', 0, ''), new ApiError('store_unavailable', 503, '')];
    const first = here.addUpload('a', upload({ uploadUrl: 'https://vod.example/api/uploads/1' }));
    const second = here.removeUpload('a');
    await Promise.all([first, second]);
    expect(notes.calls).toEqual(['put', 'delete']);
    expect(notes.notes.size).toBe(0);
  });

  it('do not stop an upload when writing them fails', async () => {
    const here = browser();
    await here.lookUp('a', file, null);
    notes.failures = [new ApiError('note_too_large', 400, '')];
    await expect(here.addUpload('a', upload({ uploadUrl: 'https://vod.example/api/uploads/1' }))).resolves.toBe('a');
  });

  it('are deleted with the parts when the file is cancelled', async () => {
    const here = browser();
    await here.lookUp('a', file, null);
    await here.addUpload('a', upload({ parallelUploadUrls: ['https://vod.example/api/uploads/1', 'https://vod.example/api/uploads/2'] }));
    notes.calls.length = 0;
    await here.discard('a');
    expect(notes.calls).toEqual(['delete', 'drop /api/uploads/1', 'drop /api/uploads/2']);
    await here.discard('a');
    expect(notes.calls).toHaveLength(3);
  });
});

describe('the limit of request bodies', () => {
  const memory = () => {
    const kept = new Map<string, string>();
    return { getItem: (key: string) => kept.get(key) ?? null, setItem: (key: string, value: string) => void kept.set(key, value) };
  };

  it('is remembered for a day, by server', () => {
    vi.useFakeTimers();
    const kept = memory();
    expect(new BodyLimit(kept, 'https://a/').refused(10 ** 9)).toBe(true);
    expect(new BodyLimit(kept, 'https://a/').bytes).toBe(64 * 1024 ** 2);
    expect(new BodyLimit(kept, 'https://b/').bytes).toBe(Infinity);
    vi.advanceTimersByTime(25 * 3600 * 1000);
    expect(new BodyLimit(kept, 'https://a/').bytes).toBe(Infinity);
    vi.useRealTimers();
  });

  it('does not shrink while an upload advances between failures', () => {
    const limit = new BodyLimit(memory(), '');
    for (const offset of ['0', '5', '10', '15']) limit.failed('/1', offset, 10 ** 8);
    limit.failed('/2', '15', 10 ** 8);
    expect(limit.bytes).toBe(Infinity);
    limit.failed('/2', '15', 10 ** 8);
    expect(limit.bytes).toBe(10 ** 8 / 4);
  });
});

describe('the speed meter', () => {
  it('knows nothing at first, then averages the last seconds', () => {
    const meter = new SpeedMeter();
    meter.record(0, 0);
    meter.record(100, 500);
    expect(meter.bytesPerSecond).toBeNull();
    for (let second = 1; second <= 10; second += 1) meter.record(second * 100, second * 1000);
    for (let second = 11; second <= 20; second += 1) meter.record(1000 + (second - 10) * 5000, second * 1000);
    expect(meter.bytesPerSecond).toBe(5000);
  });
});

it('a proxy error page becomes an error with a code', () => {
  expect(ApiError.from(413, '<html>')).toMatchObject({ code: 'proxy_limit', status: 413 });
  expect(ApiError.from(502, '<html>')).toMatchObject({ code: 'unexpected_answer', status: 502 });
  expect(ApiError.from(400, '{"error":"Empty.","code":"empty_upload"}')).toMatchObject({
    code: 'empty_upload',
    message: 'Empty.',
  });
});
