import type { HttpRequest, HttpResponse, HttpStack } from 'tus-js-client';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { Api } from '../src/api/client';
import { ApiError } from '../src/api/errors';
import type { Resumption, VideoChange, VideoDetails } from '../src/api/types';
import { SignInGate } from '../src/session/gate';
import { fingerprint } from '../src/upload/file';
import { LiveRequests } from '../src/upload/http';
import { RetryPolicy } from '../src/upload/retrying';
import { keepChosen, resumeRestored } from '../src/upload/restoring';
import { createSender, type Sender } from '../src/upload/sending';

const ORIGIN = 'https://vod.example';
const FILM = '0123456789';
const LARGE = 300 * 1024 ** 2;

interface StoredUpload {
  length: number;
  offset: number;
}

/** A tus server that answers at once, unless the test overrides its answer. */
class Server implements HttpStack {
  readonly uploads = new Map<string, StoredUpload>();
  readonly log: string[] = [];
  /** The largest body that the proxy in front passes on, and what it does with others. */
  limit: { bytes: number; answer: 'html' | 'reset' } = { bytes: Infinity, answer: 'html' };
  readonly bodies: number[] = [];
  /** Called first. A status; 'break': the connection fails; 'hang': no response ever; undefined: the normal answer. */
  override: (request: ServerRequest) => number | 'break' | 'hang' | undefined = () => undefined;

  getName = () => 'Server';
  createRequest = (method: string, url: string) => new ServerRequest(method, url, this);

  answer(request: ServerRequest, body: Blob | null): [number, Record<string, string>] {
    const upload = this.uploads.get(request.getURL());
    if (request.getMethod() === 'POST') {
      const concat = request.getHeader('Upload-Concat') ?? '';
      const made = `${ORIGIN}/api/uploads/${this.log.filter((line) => line.startsWith('POST')).length}`;
      if (concat.startsWith('final')) {
        const gone = concat.slice('final;'.length).split(' ').some((url) => !this.uploads.has(url));
        return gone ? [404, {}] : [201, { Location: made, 'Video-Id': 'video' }];
      }
      this.uploads.set(made, { length: Number(request.getHeader('Upload-Length')), offset: 0 });
      return [201, { Location: made }];
    }
    if (upload === undefined) return [404, {}];
    if (request.getMethod() === 'PATCH') upload.offset += body?.size ?? 0;
    if (request.getMethod() === 'DELETE') this.uploads.delete(request.getURL());
    return [200, { 'Upload-Offset': `${upload.offset}`, 'Upload-Length': `${upload.length}`, 'Video-Id': 'video' }];
  }
}

class ServerRequest implements HttpRequest {
  readonly #headers = new Map<string, string>();
  #answer: Record<string, string> = {};
  aborted = false;

  constructor(
    readonly method: string,
    readonly url: string,
    readonly server: Server,
  ) {}

  getMethod = () => this.method;
  getURL = () => this.url;
  setHeader = (name: string, value: string) => void this.#headers.set(name, value);
  getHeader = (name: string) => this.#headers.get(name);
  setProgressHandler = () => undefined;
  /** The part of XMLHttpRequest that @uppy/tus and the site use. */
  getUnderlyingObject = () => ({ getResponseHeader: (name: string) => this.#answer[name] ?? null });

  async send(body: Blob | null): Promise<HttpResponse> {
    const concat = this.getHeader('Upload-Concat')?.split(';')[0] ?? '';
    this.server.log.push(`${this.method} ${concat}`.trim());
    const override = this.server.override(this);
    if (body !== null) this.server.bodies.push(body.size);
    if (body !== null && body.size > this.server.limit.bytes) {
      if (this.server.limit.answer === 'reset') throw new Event('error');
      return this.#response(413, {}, '<html>Request Entity Too Large</html>');
    }
    if (override === 'hang') return new Promise(() => undefined);
    // Like XMLHttpRequest, this rejects with an event, and an unreadable file looks like a network failure.
    const unreadable = body instanceof Film && !body.readable;
    if (override === 'break' || unreadable) throw new Event('error');
    const [status, headers] = typeof override === 'number' ? [override, {}] : this.server.answer(this, body);
    const error = JSON.stringify({ error: 'No.', code: status === 413 ? 'upload_too_large' : 'other' });
    return this.#response(status, headers, status < 400 ? '' : error);
  }

  #response(status: number, headers: Record<string, string>, body: string): HttpResponse {
    this.#answer = headers;
    return { getStatus: () => status, getHeader: (name) => headers[name], getBody: () => body, getUnderlyingObject: this.getUnderlyingObject };
  }

  abort(): Promise<void> {
    this.aborted = true;
    return Promise.resolve();
  }
}

/** A file of any size that holds no data and may become unreadable. */
class Film extends Blob {
  readable = true;

  constructor(readonly length: number) {
    super([FILM]);
  }

  override get size() {
    return this.length;
  }

  override slice(start = 0, end = this.length): Blob {
    const piece = new Film((end < 0 ? this.length : end) - (start < 0 ? this.length + start : start));
    Object.defineProperty(piece, 'readable', { get: () => this.readable });
    return piece;
  }

  override arrayBuffer(): Promise<ArrayBuffer> {
    if (!this.readable) return Promise.reject(new DOMException('The file changed.', 'NotReadableError'));
    return Promise.resolve(new TextEncoder().encode(FILM).buffer);
  }
}

class Notes extends Api {
  note: Resumption | null = null;
  noteProblem: ApiError | null = null;
  readonly changes: VideoChange[] = [];

  constructor(
    readonly server: Server,
    link: string | null = null,
  ) {
    super(ORIGIN, link);
  }

  override resumption(_: string) {
    return this.noteProblem ? Promise.reject(this.noteProblem) : Promise.resolve(this.note);
  }
  override async noteResumption(_: string, note: Resumption) {
    this.note = note;
  }
  override async forgetResumption() {
    this.note = null;
  }
  override maxUploadBytes() {
    return Promise.resolve(null);
  }
  /** The title that uploads were begun with. */
  begunTitle: string | null = null;
  override async upload(path: string) {
    const upload = this.server.uploads.get(ORIGIN + path);
    return upload === undefined ? null : { complete: upload.offset === upload.length, title: this.begunTitle };
  }
  override async discardUpload(path: string) {
    this.server.uploads.delete(ORIGIN + path);
  }
  override async change(_: string, change: VideoChange) {
    this.changes.push(change);
  }
  override video() {
    return Promise.resolve({ title: 'Given elsewhere' } as VideoDetails);
  }
}

const report = {
  onBusy: vi.fn(),
  onPaused: vi.fn(),
  onSent: vi.fn(),
  onTrouble: vi.fn(),
  onUploaded: vi.fn(),
  onFailed: vi.fn(),
  note: vi.fn(() => ''),
};
let server: Server;
let notes: Notes;
let uppy: Sender;

beforeEach(() => {
  vi.useFakeTimers();
  vi.spyOn(console, 'warn').mockImplementation(() => undefined);
  Object.values(report).forEach((one) => one.mockReset());
  server = new Server();
  notes = new Notes(server);
  uppy = senderFor(notes);
});

function senderFor(api: Api): Sender {
  const retryPolicy = new RetryPolicy(
    new SignInGate(() => undefined),
    () => Promise.resolve(),
    () => Promise.resolve(),
  );
  return createSender({ api, retryPolicy, report, httpStack: server, root: ORIGIN });
}

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

function add(film: Blob, name = 'film.mp4'): string {
  return uppy.addFile({ name, type: 'video/mp4', data: film });
}

const pass = () => vi.advanceTimersByTimeAsync(60_000);
const failures = () => uppy.getFiles().map((file) => file.error);
const times = (line: string) => server.log.filter((other) => other === line).length;

it.each([
  ['notes.pdf', 'application/pdf', 'text', '“notes.pdf” doesn’t look like a video or audio file.'],
  ['$&.mp4', 'video/mp4', '', '“$&.mp4” is empty.'],
])('a rejected file is named: %s', (name, type, content, message) => {
  uppy.addFiles([{ name, type, data: new Blob([content]) }]);

  expect(uppy.getState().info.map((one) => one.message)).toEqual([message]);
});

/** A film that another client has begun to send in four parts. */
function begunInParts(length: number): Film {
  const urls = [1, 2, 3, 4].map((part) => `/api/uploads/part-${part}`);
  for (const url of urls) server.uploads.set(ORIGIN + url, { length: length / urls.length, offset: 0 });
  notes.note = { upload_url: null, parallel_upload_urls: urls, size_bytes: length };
  return new Film(length);
}

it.each([
  [10, LARGE, 1],
  [120, LARGE, 4],
  [120, LARGE / 100, 1],
])('a server that answers in %i ms gets %i bytes in %i parts', async (ms, size, parts) => {
  const answers = [
    { name: `${ORIGIN}/api/session`, requestStart: 1, responseStart: 900 },
    { name: `${ORIGIN}/api/videos`, requestStart: 5, responseStart: 5 + ms },
    { name: `${ORIGIN}/site.css`, requestStart: 5, responseStart: 6 },
  ];
  vi.spyOn(performance, 'getEntriesByType').mockReturnValue(answers as unknown as PerformanceEntryList);
  add(new Film(size));
  void uppy.upload();
  await pass();
  expect([times('POST'), times('POST partial')]).toEqual(parts === 1 ? [1, 0] : [0, parts]);
});

describe('a file in parts', () => {
  it.each(['break', 503] as const)('is joined after a pause even if the first attempt fails (%s)', async (failure) => {
    const id = add(begunInParts(LARGE));
    server.override = (request) => (request.getMethod() === 'PATCH' ? 'hang' : undefined);
    void uppy.upload();
    await pass();
    expect(times('PATCH partial')).toBe(4);
    uppy.pauseResume(id);
    await pass();

    let attempts = 0;
    server.override = (request) =>
      request.getHeader('Upload-Concat')?.startsWith('final') && (attempts += 1) === 1 ? failure : undefined;
    uppy.pauseResume(id);
    await pass();

    expect([attempts, times('POST partial')]).toEqual([2, 0]);
    expect(report.onUploaded).toHaveBeenCalledOnce();
  });

  it('reports a part that is rejected after a pause', async () => {
    add(begunInParts(LARGE));
    server.override = (request) => (request.getMethod() === 'PATCH' ? 'hang' : undefined);
    void uppy.upload();
    await pass();
    uppy.pauseAll();
    server.override = (request) => (request.getMethod() === 'PATCH' ? 413 : undefined);
    uppy.resumeAll();
    await pass();
    expect(failures()).toEqual(['This file is larger than the server allows.']);
  });

  it.each([404, 410])('is sent and noted again when its parts can no longer be joined (%i)', async (status) => {
    let refused = false;
    server.override = (request) => {
      if (!request.getHeader('Upload-Concat')?.startsWith('final') || refused) return undefined;
      refused = true;
      server.uploads.clear();
      return status;
    };
    const noted: (string[] | null)[] = [];
    vi.spyOn(notes, 'noteResumption').mockImplementation(async (_, note) => void noted.push(note.parallel_upload_urls));
    add(begunInParts(LARGE));
    void uppy.upload();
    await pass();

    expect([times('POST partial'), times('POST final')]).toEqual([4, 2]);
    expect(report.onUploaded).toHaveBeenCalledOnce();
    expect(noted.map((urls) => urls?.map((url) => ORIGIN + url))).toEqual([[...server.uploads.keys()]]);
  });
});

it.each(['uploaded', 'removed', 'refused'])('keeps no requests of a file once it is %s', async (outcome) => {
  const end = vi.spyOn(LiveRequests.prototype, 'end');
  const answers = { uploaded: undefined, removed: 'hang', refused: 413 } as const;
  server.override = (request) => (request.method === 'PATCH' ? answers[outcome as keyof typeof answers] : undefined);
  const id = add(new Film(10));
  void uppy.upload();
  await pass();
  if (outcome === 'removed') uppy.removeFile(id);
  expect(end.mock.calls).toEqual([[id]]);
});

describe('a file that was changed or moved', () => {
  const sentence = 'This file was changed or moved. Choose it again.';

  it('is not reported as a network failure', async () => {
    const film = new Film(10);
    add(film);
    server.override = (request) => {
      if (request.getMethod() === 'PATCH') film.readable = false;
      return undefined;
    };
    void uppy.upload();
    await pass();
    expect(failures()).toEqual([sentence]);
    expect(times('PATCH')).toBe(1);
  });

  it.each([10, 11])('is rejected before anything is sent, and can be chosen again (with %i bytes)', async (bytes) => {
    const film = new Film(10);
    film.readable = false;
    add(film);
    void uppy.upload();
    await pass();
    expect(failures()).toEqual([sentence]);
    expect(server.log).toEqual([]);

    add(new Film(bytes));
    expect(failures()).toEqual([undefined]);
    expect(uppy.getState().error).toBeNull();
    void uppy.upload();
    await pass();
    expect(report.onUploaded).toHaveBeenCalledOnce();
    expect(() => add(new Film(bytes))).toThrow('is already in the list');
  });
});

it('does not start an upload over when its note cannot be read', async () => {
  notes.noteProblem = new ApiError('forbidden', 403, 'No.');
  add(new Film(10));
  void uppy.upload();
  await pass();
  expect(failures()).toEqual(['No.']);
  expect(server.log).toEqual([]);
});

describe('an earlier upload of the same file', () => {
  const given = (title: string) => {
    uppy.setFileMeta(add(new Film(10)), { title });
    void uppy.upload();
    return pass();
  };
  const started = { length: 10, offset: 5 };
  const note = { upload_url: '/api/uploads/started', parallel_upload_urls: null, size_bytes: 10 };

  beforeEach(() => {
    server.uploads.set(`${ORIGIN}/api/uploads/started`, { ...started });
    notes.note = note;
    notes.begunTitle = 'Given elsewhere';
  });

  it('is resumed and visibly takes a title given here', async () => {
    const said: string[] = [];
    uppy.on('info-visible', () => said.push(String(uppy.getState().info[0]?.message)));
    await given('Given here');
    expect(notes.changes).toEqual([{ title: 'Given here' }]);
    expect(report.onUploaded).toHaveBeenCalledWith({ id: 'video', title: 'Given here' });
    expect(said).toEqual(['Resuming “Given elsewhere”, now titled “Given here”.']);
    expect(times('POST')).toBe(0);
  });

  it('keeps its title if none is given here', async () => {
    add(new Film(10));
    void uppy.upload();
    await pass();
    expect(notes.changes).toEqual([]);
    expect(report.onUploaded).toHaveBeenCalledWith({ id: 'video', title: 'Given elsewhere' });
  });

  it('that is complete stays as it is: another title makes a second video', async () => {
    server.uploads.set(`${ORIGIN}/api/uploads/started`, { length: 10, offset: 10 });
    await given('Given here');
    expect([times('POST'), times('PATCH'), notes.changes]).toEqual([1, 1, []]);
    expect(report.onUploaded).toHaveBeenCalledWith({ id: 'video', title: 'Given here' });
  });

  it('that is complete is not sent again with the same title', async () => {
    server.uploads.set(`${ORIGIN}/api/uploads/started`, { length: 10, offset: 10 });
    await given('Given elsewhere');
    expect([times('POST'), times('PATCH'), notes.changes]).toEqual([0, 0, []]);
    expect(report.onUploaded).toHaveBeenCalledWith({ id: 'video', title: 'Given elsewhere' });
  });

  it('in complete parts, which may be a video already, is not renamed', async () => {
    server.uploads.set(`${ORIGIN}/api/uploads/started`, { length: 10, offset: 10 });
    notes.note = { upload_url: null, parallel_upload_urls: ['/api/uploads/started'], size_bytes: 10 };
    notes.begunTitle = null;
    vi.spyOn(notes, 'resumption').mockImplementation(async (key) => (key === (await fingerprint(new Film(10))) ? notes.note : null));
    await given('Given here');
    expect([times('POST'), notes.changes]).toEqual([1, []]);
  });

  it('finished by another browser meanwhile is not renamed', async () => {
    server.override = (request) => {
      if (request.getMethod() === 'HEAD') server.uploads.get(request.getURL())!.offset = 10;
      return undefined;
    };
    await given('Given here');
    expect(notes.changes).toEqual([]);
  });
});

describe('behind a proxy that limits bodies', () => {
  const MIB = 1024 ** 2;

  it.each([
    ['a whole file', 'html', 1],
    ['parts', 'html', 4],
    ['a whole file, through a proxy that closes the connection', 'reset', 1],
  ] as const)('%s is sent in smaller requests', async (_, answer, count) => {
    const size = 100 * MIB;
    server.limit = { bytes: MIB, answer };
    add(count === 1 ? new Film(size) : begunInParts(size));
    void uppy.upload();
    await vi.advanceTimersByTimeAsync(300_000);
    expect(failures()).toEqual([undefined]);
    expect(report.onUploaded).toHaveBeenCalledOnce();
    expect(server.bodies.filter((bytes) => bytes <= MIB).reduce((sum, bytes) => sum + bytes)).toBe(size);
    // It learns the limit once, not for every request.
    expect(server.bodies.filter((bytes) => bytes > MIB).length).toBeLessThan(12 * count);
  });

  it('that passes on nothing useful, an upload fails with the reason', async () => {
    server.limit = { bytes: 1000, answer: 'html' };
    add(new Film(100 * MIB));
    void uppy.upload();
    await pass();
    expect(failures()).toEqual([expect.stringContaining('A proxy in front of the server')]);
  });
});

it('reports a pause only once every file is paused', async () => {
  server.override = () => 'hang';
  const [first, second] = [add(new Film(10)), add(new Film(11), 'other.mp4')];
  void uppy.upload();
  await pass();
  uppy.pauseResume(first);
  expect(report.onPaused).toHaveBeenLastCalledWith(false);
  uppy.pauseResume(second);
  expect(report.onPaused).toHaveBeenLastCalledWith(true);
  expect(report.onBusy).toHaveBeenLastCalledWith(true);
});

describe('after a reload', () => {
  const started: string[] = [];

  beforeEach(() => {
    started.length = 0;
    uppy.on('preprocess-progress', (file) => void started.push(file?.name ?? ''));
  });

  /** Restore files as GoldenRetriever does: one failed, one in progress, one only chosen, and optionally one paused. */
  function restore({ inProgress = true, isPaused = false } = {}): void {
    const names = ['rejected.mp4', 'sent.mp4', 'chosen.mp4', ...(isPaused ? ['paused.mp4'] : [])];
    const ids = names.map((name) => add(new Film(10), name));
    const [rejected, , chosen] = ids as [string, string, string];
    uppy.setFileState(rejected, { error: 'No.', progress: { ...uppy.getFile(rejected).progress, uploadStarted: 1 } as never });
    if (isPaused) uppy.setFileState(ids[3]!, { isPaused });
    const fileIDs = ids.filter((id) => id !== chosen);
    const currentUploads = inProgress ? { upload: { fileIDs, step: 0, result: {} } } : {};
    uppy.setState({ currentUploads, recoveredState: { files: {}, currentUploads: {} } as never });
    resumeRestored(uppy);
  }

  it('resumes only what was in progress', async () => {
    restore();
    await pass();
    expect(started).toEqual(['sent.mp4']);
    expect(report.onUploaded).toHaveBeenCalledOnce();
    expect(failures()).toEqual(['No.', undefined, undefined]);
    expect(uppy.getState().recoveredState).toBeNull();
  });

  it('keeps a file that was chosen while those of the last visit were being read', () => {
    keepChosen(uppy);
    const chosen = add(new Film(10));
    uppy.setState({ recoveredState: null, currentUploads: {}, files: {} });
    uppy.emit('restored', {} as never);
    expect(uppy.getFiles().map((file) => file.id)).toEqual([chosen]);
  });

  it.each([{ inProgress: false }, { isPaused: true }])('waits for the button otherwise (%o)', async (state) => {
    restore(state);
    await pass();
    expect(started).toEqual([]);
    expect(uppy.getState().recoveredState).not.toBeNull();
  });
});

it.each([
  [413, true],
  [507, false],
])('knows whether another try can help (%i)', async (status, final) => {
  const id = add(new Film(10));
  server.override = (request) => (request.getMethod() === 'POST' ? status : undefined);
  void uppy.upload();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(Boolean(uppy.getFile(id).meta.final)).toBe(final);

  server.override = () => undefined;
  const sent = server.log.length;
  void uppy.retryAll();
  await pass();
  expect(server.log.length > sent).toBe(!final);
});

describe('for a guest', () => {
  const QUERY = '?upload_link=secret';
  const urls: string[] = [];

  beforeEach(() => {
    urls.length = 0;
    notes = new Notes(server, 'secret');
    uppy = senderFor(notes);
    server.override = (request) => void urls.push(request.getURL());
    vi.spyOn(performance, 'getEntriesByType').mockReturnValue([]);
  });

  it('every request has the link, and no note on the server does', async () => {
    const noted = vi.spyOn(notes, 'noteResumption');
    report.note.mockReturnValue('From Ben');
    add(new Film(LARGE));
    await pass();
    const answer = uppy.upload();
    await pass();
    await answer;
    expect(urls[0]).toBe(`${ORIGIN}/api/uploads${QUERY}`);
    expect(JSON.stringify(noted.mock.calls)).not.toContain('secret');
    expect(noted.mock.calls[0]![1].parallel_upload_urls).toBeNull();
    expect(uppy.getFiles()[0]!.meta.note).toBe('From Ben');
    expect(report.onUploaded).toHaveBeenCalledWith({ id: 'video', title: 'film' });
  });

  it('an upload resumes with the link', async () => {
    server.uploads.set(`${ORIGIN}/api/uploads/5${QUERY}`, { length: 10, offset: 4 });
    server.uploads.set(`${ORIGIN}/api/uploads/5`, { length: 10, offset: 4 });
    notes.note = { upload_url: '/api/uploads/5', parallel_upload_urls: null, size_bytes: 10 };
    add(new Film(10));
    const answer = uppy.upload();
    await pass();
    await answer;
    expect(urls).toEqual([`${ORIGIN}/api/uploads/5${QUERY}`, `${ORIGIN}/api/uploads/5${QUERY}`]);
    expect(server.bodies).toEqual([6]);
  });

  it('a link that has ended is not asked for again and again', async () => {
    server.uploads.set(`${ORIGIN}/api/uploads/5`, { length: 10, offset: 4 });
    notes.note = { upload_url: '/api/uploads/5', parallel_upload_urls: null, size_bytes: 10 };
    server.override = (request) => (request.getMethod() === 'HEAD' ? 403 : undefined);
    add(new Film(10));
    const answer = uppy.upload();
    await pass();
    await answer;
    expect(server.log).toEqual(['HEAD']);
    expect(failures()).toEqual(['This upload link no longer works. Ask the sender for a new one.']);
  });
});
