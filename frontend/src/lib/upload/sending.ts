/** Uppy without anything to see: how files are sent by tus, and what happens when that fails. */

import Uppy, { type Meta, type UppyFile } from '@uppy/core';
import Tus, { type TusBody } from '@uppy/tus';
import type { HttpRequest, HttpStack } from 'tus-js-client';

import type { Api } from '../api/client';
import { ApiError, sentence } from '../api/errors';
import { titleOf } from '../format';
import { isGone, isWorthRetrying, problemOf } from './failures';
import { LiveRequests, PatientHttpStack, putsTogether } from './http';
import { type Patience, RETRY_DELAYS_MS } from './patience';
import { Resumptions } from './resumptions';
import { CORE_TEXTS } from './texts';
import type { UploadReport } from './uploads.svelte';

export type Sender = Uppy<Meta, TusBody>;
type File = UppyFile<Meta, TusBody>;

/**
 * Larger files are sent in four parts at once, since one connection does not fill a long line. Putting them together
 * again takes the store a while, which pays for files that take a minute or longer. Browsers open six connections to a
 * server, so that two are left for the rest of the site; that is also why one file is sent at a time.
 */
const PARALLEL_FROM_BYTES = 200 * 1024 ** 2;
const PARALLEL_PARTS = 4;

/** Some that systems do not know for video. */
const ENDINGS = ['.mkv', '.ts', '.mts', '.m2ts', '.mxf', '.vob', '.flv', '.wmv', '.avi', '.mpg', '.mov', '.ogv', '.rm'];

const UNREADABLE = sentence(new ApiError('file_unreadable', 0, ''));

export interface Wiring {
  api: Api;
  patience: Patience;
  report: UploadReport;
  httpStack: HttpStack;
  /** Of the server, as this browser names it. */
  origin: string;
}

export function createSender({ api, patience, report, httpStack, origin }: Wiring): Sender {
  const endpoint = `${origin}/api/uploads`;
  // By this key @uppy/tus asks the URL storage (its getFingerprint.js).
  const keyOf = (id: string) => ['tus', id, endpoint].join('-');
  const resumptions = new Resumptions(api, patience, origin);
  const requests = new LiveRequests((id) => uppy.getFile(id) !== undefined && uppy.getFile(id).error == null);
  /** Files of which the server had something already. */
  const resumed = new Set<string>();

  const restrictions = { minFileSize: 1, allowedFileTypes: ['video/*', 'audio/*', ...ENDINGS] };
  const uppy: Sender = new Uppy<Meta, TusBody>({
    id: 'vodbucket',
    // What fails is told on the page; errors in the console are the page's own.
    logger: { debug: () => undefined, warn: () => undefined, error: (...words: unknown[]) => console.warn(...words) },
    restrictions,
    // A file that has failed may be chosen again, perhaps from where it was moved to.
    onBeforeFileAdded: (file, files) => !(file.id in files) || Boolean(files[file.id]?.error),
    locale: { strings: CORE_TEXTS, pluralize: (count) => (count === 1 ? 0 : 1) },
  }).use(Tus, {
    endpoint,
    limit: 1,
    retryDelays: RETRY_DELAYS_MS,
    removeFingerprintOnSuccess: true,
    allowedMetaFields: ['title', 'name', 'type'],
    urlStorage: resumptions,
    httpStack: new PatientHttpStack(httpStack, patience, { onSent: report.onSent }),
    onBeforeRequest: (request, file) => requests.begin(file.id, request),
    onShouldRetry: (error) => {
      const problem = problemOf(error);
      const goesOn = isWorthRetrying(problem);
      if (goesOn) report.onTrouble();
      if (isGone(problem) && putsTogether(error.originalRequest)) beginAnew(error.originalRequest);
      return goesOn;
    },
    // Uppy shows the message as it is.
    onError: (error) => (error.message = sentence(problemOf(error))),
  });

  // The parts of a large file are each small enough, so that the server could only say it at the end.
  void api.maxUploadBytes().then(
    (maxFileSize) => uppy.setOptions({ restrictions: { ...restrictions, maxFileSize } }),
    () => undefined,
  );

  uppy.on('file-added', (file) => {
    if (file.meta.title === undefined) uppy.setFileMeta(file.id, { title: titleFor(file) });
  });

  // A file that was edited is another one for Uppy, whose panel offers nothing but "Try again" while one has failed.
  uppy.on('files-added', (added) => {
    const names = new Set(added.map((file) => file.name));
    const old = uppy.getFiles().filter((file) => file.error === UNREADABLE && names.has(file.name));
    uppy.removeFiles(old.map((file) => file.id));
    if (!uppy.getFiles().some((file) => file.error)) uppy.setState({ error: null });
  });

  uppy.addPreProcessor(async (ids) => {
    for (const file of uppy.getFilesByIds(ids)) {
      if (file.progress.uploadComplete || file.error != null || !(file.data instanceof Blob)) continue;
      uppy.emit('preprocess-progress', file, { mode: 'indeterminate', message: 'Looking for what is there already' });
      try {
        await prepare(file, file.data);
      } catch (error) {
        uppy.emit('upload-error', uppy.getFile(file.id), new Error(sentence(error)));
      }
      uppy.emit('preprocess-complete', uppy.getFile(file.id));
    }
  });

  async function prepare(file: File, data: Blob): Promise<void> {
    const previous = await resumptions.learn(keyOf(file.id), data);
    if (uppy.getFile(file.id) === undefined) return;
    if (previous !== null) resumed.add(file.id);
    const parts = previous?.parallelUploadUrls?.length ?? (previous === null && isLarge(file) ? PARALLEL_PARTS : 1);
    uppy.setFileState(file.id, { tus: { parallelUploads: parts } });
  }

  const uploaderOf = (id: string) => uppy.getPlugin('Tus')?.uploaders[id];

  /** Pieces that the server cannot put together any more are of no use. */
  function beginAnew(request: HttpRequest): void {
    const id = requests.fileOf(request);
    const uploader = id === undefined ? null : uploaderOf(id);
    if (id === undefined || !uploader) return;
    void resumptions.drop(keyOf(id)).catch(() => undefined);
    // tus-js-client makes a lost piece anew by itself, but notes new ones only where it has no key (upload.js:840).
    Object.assign(uploader, { _parallelUploadUrls: null, _urlStorageKey: null });
  }

  // tus-js-client lets the other parts go on when one was refused.
  uppy.on('upload-error', (file) => {
    if (file !== undefined) requests.end(file.id);
  });

  // tus-js-client forgets the addresses of parts that it was asking about when it was paused.
  const remindOf = (id: string) => {
    const previous = resumptions.known(keyOf(id));
    if (previous !== null) uploaderOf(id)?.resumeFromPreviousUpload(previous);
  };
  // An upload in parts that was paused ignores every failure from then on: abort() sets `_aborted` (upload.js:419),
  // which _emitError asks for (:445), and only a plain upload resets it when it is started again (:362). @uppy/tus
  // listens later than this, and then starts it.
  const hearAgain = (id: string) => {
    const uploader = uploaderOf(id);
    if (uploader) Object.assign(uploader, { _aborted: false });
  };
  uppy.on('upload-pause', (file, isPaused) => {
    if (file !== undefined) (isPaused ? remindOf : hearAgain)(file.id);
  });
  uppy.on('pause-all', () => uppy.getFiles().forEach((file) => remindOf(file.id)));
  uppy.on('resume-all', () => uppy.getFiles().forEach((file) => hearAgain(file.id)));

  uppy.on('file-removed', (file) => {
    requests.end(file.id);
    resumed.delete(file.id);
    // @uppy/tus ends a plain upload itself, one in parts not.
    if (!file.progress.uploadComplete) void resumptions.drop(keyOf(file.id)).catch(() => undefined);
  });

  uppy.on('upload-success', (file, response) => {
    if (file === undefined) return;
    const id = response.body?.xhr.getResponseHeader('Video-Id') ?? lastSegment(response.uploadURL ?? '');
    uppy.setFileState(file.id, { uploadURL: `${origin}/watch/${id}` });
    const title = String(file.meta.title || file.name);
    const titled = resumed.has(file.id) ? settleTitle(id, title, title !== titleFor(file)) : Promise.resolve(title);
    void titled.catch(() => title).then((title) => report.onUploaded({ id, title }));
    requests.end(file.id);
  });

  /** The server got the title when the upload was begun, perhaps elsewhere and another one. Return what it is now. */
  async function settleTitle(id: string, title: string, isGiven: boolean): Promise<string> {
    if (!isGiven) return (await api.video(id, true)).title;
    await api.change(id, { title });
    return title;
  }

  uppy.on('state-update', (_, state) => {
    // What was restored and waits for its files is not under way.
    report.onBusy(state.recoveredState === null && Object.keys(state.currentUploads).length > 0);
    const sent = filesUnderWay(uppy);
    report.onPaused(sent.length > 0 && sent.every((file) => file.isPaused));
    const failed = Object.values(state.files).filter((file) => file.error);
    report.onFailed(failed.map((file) => ({ id: file.id, name: file.name ?? '', reason: String(file.error) })));
  });
  return uppy;
}

/** Files that somebody has started, and that are neither done nor refused. */
export function filesUnderWay(uppy: Sender): File[] {
  const started = new Set(Object.values(uppy.getState().currentUploads).flatMap((upload) => upload.fileIDs));
  return uppy.getFiles().filter((file) => started.has(file.id) && !file.progress.uploadComplete && !file.error);
}

function isLarge(file: File): boolean {
  return (file.size ?? 0) >= PARALLEL_FROM_BYTES;
}

function titleFor(file: File): string {
  if (file.source !== 'Webcam' && file.source !== 'ScreenCapture') return titleOf(file.name ?? '');
  return `Recording of ${new Date().toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'short' })}`;
}

function lastSegment(url: string): string {
  return url.slice(url.lastIndexOf('/') + 1);
}
