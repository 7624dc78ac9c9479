import type { HttpRequest, HttpResponse, HttpStack } from 'tus-js-client';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { Api } from '../src/lib/api/client';
import { ApiError } from '../src/lib/api/errors';
import type { Resumption, VideoChange, VideoDetails } from '../src/lib/api/types';
import { SignInGate } from '../src/lib/upload/gate';
import { LiveRequests } from '../src/lib/upload/http';
import { Patience } from '../src/lib/upload/patience';
import { goOnWithRestored } from '../src/lib/upload/restoring';
import { createSender, type Sender } from '../src/lib/upload/sending';

const ORIGIN = 'https://vod.example';
const FILM = '0123456789';
const LARGE = 300 * 1024 ** 2;

interface StoredUpload {
  length: number;
  offset: number;
}

/** What a tus server keeps, answering at once unless a test answers in its place. */
class Server implements HttpStack {
  readonly uploads = new Map<string, StoredUpload>();
  readonly log: string[] = [];
  /** Asked first: a status, 'break' for no answer, 'hang' for none at all, undefined for what a server does. */
  inPlace: (request: ServerRequest) => number | 'break' | 'hang' | undefined = () => undefined;

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
  /** As much of an XMLHttpRequest as @uppy/tus and the page look at. */
  getUnderlyingObject = () => ({ getResponseHeader: (name: string) => this.#answer[name] ?? null });

  async send(body: Blob | null): Promise<HttpResponse> {
    const concat = this.getHeader('Upload-Concat')?.split(';')[0] ?? '';
    this.server.log.push(`${this.method} ${concat}`.trim());
    const inPlace = this.server.inPlace(this);
    if (inPlace === 'hang') return new Promise(() => undefined);
    // As an XMLHttpRequest: what it rejects with is an event, and a file that cannot be read looks like a broken line.
    const unreadable = body instanceof Film && !body.readable;
    if (inPlace === 'break' || unreadable) throw new Event('error');
    const [status, headers] = typeof inPlace === 'number' ? [inPlace, {}] : this.server.answer(this, body);
    this.#answer = headers;
    return { getStatus: () => status, getHeader: (name) => headers[name], getBody: () => '', getUnderlyingObject: this.getUnderlyingObject };
  }

  abort(): Promise<void> {
    this.aborted = true;
    return Promise.resolve();
  }
}

/** A file of any size without bytes, which may become unreadable. */
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
    if (!this.readable) return Promise.reject(new DOMException('It was changed.', 'NotReadableError'));
    return Promise.resolve(new TextEncoder().encode(FILM).buffer);
  }
}

class Notes extends Api {
  note: Resumption | null = null;
  noteProblem: ApiError | null = null;
  readonly changes: VideoChange[] = [];

  constructor(readonly server: Server) {
    super();
  }

  override resumption() {
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
  override async hasUpload(path: string) {
    return this.server.uploads.has(ORIGIN + path);
  }
  override async dropUpload(path: string) {
    this.server.uploads.delete(ORIGIN + path);
  }
  override async change(_: string, change: VideoChange) {
    this.changes.push(change);
  }
  override video() {
    return Promise.resolve({ title: 'Given elsewhere' } as VideoDetails);
  }
}

const report = { onBusy: vi.fn(), onPaused: vi.fn(), onSent: vi.fn(), onTrouble: vi.fn(), onUploaded: vi.fn(), onFailed: vi.fn() };
let server: Server;
let notes: Notes;
let uppy: Sender;

beforeEach(() => {
  vi.useFakeTimers();
  vi.spyOn(console, 'warn').mockImplementation(() => undefined);
  Object.values(report).forEach((one) => one.mockReset());
  server = new Server();
  notes = new Notes(server);
  const patience = new Patience(
    new SignInGate(() => undefined),
    () => Promise.resolve(),
    () => Promise.resolve(),
  );
  uppy = createSender({ api: notes, patience, report, httpStack: server, origin: ORIGIN });
});

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

describe('a file in parts', () => {
  it.each(['break', 503] as const)('is put together after a pause although the first attempt fails (%s)', async (failure) => {
    const id = add(new Film(LARGE));
    server.inPlace = (request) => (request.getMethod() === 'PATCH' ? 'hang' : undefined);
    void uppy.upload();
    await pass();
    expect(times('PATCH partial')).toBe(4);
    uppy.pauseResume(id);
    await pass();

    let attempts = 0;
    server.inPlace = (request) =>
      request.getHeader('Upload-Concat')?.startsWith('final') && (attempts += 1) === 1 ? failure : undefined;
    uppy.pauseResume(id);
    await pass();

    expect([attempts, times('POST partial')]).toEqual([2, 4]);
    expect(report.onUploaded).toHaveBeenCalledOnce();
  });

  it('says so when a part is refused after all were resumed', async () => {
    add(new Film(LARGE));
    server.inPlace = (request) => (request.getMethod() === 'PATCH' ? 'hang' : undefined);
    void uppy.upload();
    await pass();
    uppy.pauseAll();
    server.inPlace = (request) => (request.getMethod() === 'PATCH' ? 413 : undefined);
    uppy.resumeAll();
    await pass();
    expect(failures()).toEqual(['This file is larger than the server accepts.']);
  });

  it.each([404, 410])('is sent anew, and noted anew, when its parts cannot be put together any more (%i)', async (status) => {
    let refused: string[] = [];
    server.inPlace = (request) => {
      if (!request.getHeader('Upload-Concat')?.startsWith('final') || refused.length > 0) return undefined;
      refused = [...server.uploads.keys()];
      server.uploads.clear();
      return status;
    };
    const noted: (string[] | null)[] = [];
    vi.spyOn(notes, 'noteResumption').mockImplementation(async (_, note) => void noted.push(note.parallel_upload_urls));
    add(new Film(LARGE));
    void uppy.upload();
    await pass();

    expect([times('POST partial'), times('POST final')]).toEqual([8, 2]);
    expect(report.onUploaded).toHaveBeenCalledOnce();
    expect(noted.map((urls) => urls?.map((url) => ORIGIN + url))).toEqual([refused, [...server.uploads.keys()]]);
  });
});

it.each(['uploaded', 'removed', 'refused'])('no request of a file is kept once it is %s', async (outcome) => {
  const end = vi.spyOn(LiveRequests.prototype, 'end');
  const answers = { uploaded: undefined, removed: 'hang', refused: 413 } as const;
  server.inPlace = (request) => (request.method === 'PATCH' ? answers[outcome as keyof typeof answers] : undefined);
  const id = add(new Film(10));
  void uppy.upload();
  await pass();
  if (outcome === 'removed') uppy.removeFile(id);
  expect(end.mock.calls).toEqual([[id]]);
});

describe('a file that was changed or moved', () => {
  const sentence = 'This file was changed or moved. Choose it again.';

  it('is no broken connection', async () => {
    const film = new Film(10);
    add(film);
    server.inPlace = (request) => {
      if (request.getMethod() === 'PATCH') film.readable = false;
      return undefined;
    };
    void uppy.upload();
    await pass();
    expect(failures()).toEqual([sentence]);
    expect(times('PATCH')).toBe(1);
  });

  it.each([10, 11])('is refused before anything is sent, and may be chosen again (with %i bytes)', async (bytes) => {
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

it('an upload whose note cannot be read is not begun from zero', async () => {
  notes.noteProblem = new ApiError('forbidden', 403, 'No.');
  add(new Film(10));
  void uppy.upload();
  await pass();
  expect(failures()).toEqual(['No.']);
  expect(server.log).toEqual([]);
});

describe('the title of an upload that was begun elsewhere', () => {
  beforeEach(() => {
    server.uploads.set(`${ORIGIN}/api/uploads/begun`, { length: 10, offset: 5 });
    notes.note = { upload_url: '/api/uploads/begun', parallel_upload_urls: null, size_bytes: 10 };
  });

  it('is the one that is given here', async () => {
    uppy.setFileMeta(add(new Film(10)), { title: 'Given here' });
    void uppy.upload();
    await pass();
    expect(notes.changes).toEqual([{ title: 'Given here' }]);
    expect(report.onUploaded).toHaveBeenCalledWith({ id: 'video', title: 'Given here' });
  });

  it('stays when none is given here', async () => {
    add(new Film(10));
    void uppy.upload();
    await pass();
    expect(notes.changes).toEqual([]);
    expect(report.onUploaded).toHaveBeenCalledWith({ id: 'video', title: 'Given elsewhere' });
  });
});

it('is told apart whether all is paused or some is sent', async () => {
  server.inPlace = () => 'hang';
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

  /** Restore files as GoldenRetriever does: one that was refused, one under way, one only chosen, and perhaps a paused one. */
  function restore({ underWay = true, isPaused = false } = {}): void {
    const names = ['refused.mp4', 'sent.mp4', 'chosen.mp4', ...(isPaused ? ['paused.mp4'] : [])];
    const ids = names.map((name) => add(new Film(10), name));
    const [refused, , chosen] = ids as [string, string, string];
    uppy.setFileState(refused, { error: 'No.', progress: { ...uppy.getFile(refused).progress, uploadStarted: 1 } as never });
    if (isPaused) uppy.setFileState(ids[3]!, { isPaused });
    const fileIDs = ids.filter((id) => id !== chosen);
    const currentUploads = underWay ? { upload: { fileIDs, step: 0, result: {} } } : {};
    uppy.setState({ currentUploads, recoveredState: { files: {}, currentUploads: {} } as never });
    goOnWithRestored(uppy);
  }

  it('goes on with what was under way, and with nothing else', async () => {
    restore();
    await pass();
    expect(started).toEqual(['sent.mp4']);
    expect(report.onUploaded).toHaveBeenCalledOnce();
    expect(failures()).toEqual(['No.', undefined, undefined]);
    expect(uppy.getState().recoveredState).toBeNull();
  });

  it.each([{ underWay: false }, { isPaused: true }])('waits for the button otherwise (%o)', async (state) => {
    restore(state);
    await pass();
    expect(started).toEqual([]);
    expect(uppy.getState().recoveredState).not.toBeNull();
  });
});
