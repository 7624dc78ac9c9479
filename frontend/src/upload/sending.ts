/** Uppy without its UI: sends files over tus and handles failures. */

import Uppy, { type Meta, type UppyFile } from '@uppy/core';
import Tus, { type TusBody } from '@uppy/tus';
import type { HttpRequest, HttpStack } from 'tus-js-client';

import { addressOf } from '../api/address';
import type { Api } from '../api/client';
import { ApiError, canTryAgain, isGone, messageFor } from '../api/errors';
import { titleFromFilename } from '../ui/format';
import { isRetryable, toApiError } from './failures';
import { LiveRequests, ResilientHttpStack, isConcatenation } from './http';
import { BodyLimit, browserMemory } from './limit';
import { type RetryPolicy, RETRY_DELAYS_MS } from './retrying';
import { Resumptions } from './resumptions';
import { CORE_TEXTS } from './texts';

export type Sender = Uppy<Meta, TusBody>;
type File = UppyFile<Meta, TusBody>;

/**
 * Large files go to a far server as four parallel parts, because one connection cannot fill a link with high latency.
 * The store then takes seconds per GB to join them, so a near server gets one. Browsers open six connections per
 * server, so two remain for the rest of the site. That is also why only one file is sent at a time.
 */
const PARALLEL_FROM_BYTES = 200_000_000;
const PARALLEL_PARTS = 4;
const FAR_MS = 50;

/** Extensions that some systems do not recognize as video. */
const EXTENSIONS = ['.mkv', '.ts', '.mts', '.m2ts', '.mxf', '.vob', '.flv', '.wmv', '.avi', '.mpg', '.mov', '.ogv', '.rm'];

const INFO_MS = 10_000;

const UNREADABLE = messageFor(new ApiError('file_unreadable', 0, ''));

/** A video uploaded from this page. */
export interface Uploaded {
  id: string;
  title: string;
}

/** A file that will not be uploaded unless the user does something. */
export interface Failed {
  id: string;
  name: string;
  reason: string;
}

/** Callbacks that tell the page how uploads are doing. */
export interface UploadReport {
  /** Whether files are being sent or are waiting to be. */
  onBusy: (busy: boolean) => void;
  /** Whether the user has paused every file. */
  onPaused: (paused: boolean) => void;
  onSent: (bytes: number) => void;
  /** A request failed and will be retried. */
  onTrouble: () => void;
  onUploaded: (video: Uploaded) => void;
  /** What a guest says to the owner. */
  note: () => string;
  /** All failed files in the panel now. */
  onFailed: (failed: Failed[]) => void;
}

interface SenderOptions {
  api: Api;
  retryPolicy: RetryPolicy;
  report: UploadReport;
  httpStack: HttpStack;
  /** The server's address as this browser sees it. */
  root: string;
}

export function createSender({ api, retryPolicy, report, httpStack, root }: SenderOptions): Sender {
  const endpoint = addressOf(api.linked('/api/uploads'), root);
  // The key that @uppy/tus passes to the URL storage (its getFingerprint.js).
  const keyOf = (id: string) => ['tus', id, endpoint].join('-');
  const resumptions = new Resumptions(api, retryPolicy, root);
  const requests = new LiveRequests((id) => uppy.getFile(id) !== undefined && uppy.getFile(id).error == null);
  /** Files that the server already had part of. They take the title given here if this page sends the rest. */
  const resumed = new Map<string, { retitle: boolean; sent: boolean }>();

  const restrictions = { minFileSize: 1, allowedFileTypes: ['video/*', 'audio/*', ...EXTENSIONS] };
  const uppy: Sender = new Uppy<Meta, TusBody>({
    // Files of one link must not be restored under another.
    id: ['vodbucket', ...(api.link === null ? [] : [api.link])].join('-'),
    // Failed uploads are shown on the page. Console errors are reserved for bugs in the page.
    logger: { debug: () => undefined, warn: () => undefined, error: (...message: unknown[]) => console.warn(...message) },
    restrictions,
    // A failed file may be chosen again, for example from its new location.
    onBeforeFileAdded: (file, files) => !(file.id in files) || Boolean(files[file.id]?.error),
    locale: { strings: CORE_TEXTS, pluralize: (count) => (count === 1 ? 0 : 1) },
  }).use(Tus, {
    endpoint,
    limit: 1,
    retryDelays: RETRY_DELAYS_MS,
    removeFingerprintOnSuccess: true,
    // The panel shows `name`, which follows the title.
    allowedMetaFields: ['title', 'filename', 'type', 'note'],
    urlStorage: resumptions,
    httpStack: new ResilientHttpStack(httpStack, retryPolicy, new BodyLimit(browserMemory(), root), report.onSent),
    onBeforeRequest: (request, file) => {
      const earlier = resumed.get(file.id);
      if (earlier !== undefined && request.getMethod() === 'PATCH') earlier.sent = true;
      requests.begin(file.id, request);
    },
    onShouldRetry: (error) => {
      const problem = toApiError(error);
      const retryable = isRetryable(problem);
      if (retryable) report.onTrouble();
      if (isGone(problem) && isConcatenation(error.originalRequest)) startOver(error.originalRequest);
      return retryable;
    },
    // Uppy shows the error's message.
    onError: (error) => (error.message = messageFor(toApiError(error))),
  });

  // Each part of a large file is within the limit, so the server would only reject the file at the end.
  void api.maxUploadBytes().then(
    (maxFileSize) => uppy.setOptions({ restrictions: { ...restrictions, maxFileSize } }),
    () => undefined,
  );

  // Uppy shows the message after this, and names the file in no other.
  uppy.on('restriction-failed', (file, error) => {
    error.message = error.message.replace('%{rejected}', () => file?.name ?? '');
  });

  uppy.on('file-added', (file) => {
    const title = titleFor(file);
    if (file.meta.title === undefined) uppy.setFileMeta(file.id, { title, defaultTitle: title, filename: file.name });
  });

  // Uppy takes an edited file for a new one, and its panel offers only "Try again" while any file has failed.
  uppy.on('files-added', (added) => {
    const names = new Set(added.map((file) => file.name));
    const old = uppy.getFiles().filter((file) => file.error === UNREADABLE && names.has(file.name));
    uppy.removeFiles(old.map((file) => file.id));
    if (!uppy.getFiles().some((file) => file.error)) uppy.setState({ error: null });
  });

  uppy.addPreProcessor(async (ids) => {
    for (const file of uppy.getFilesByIds(ids)) {
      if (file.progress.uploadComplete || file.error != null || !(file.data instanceof Blob)) continue;
      uppy.emit('preprocess-progress', file, { mode: 'indeterminate', message: 'Checking for an earlier upload…' });
      try {
        await prepare(file, file.data);
      } catch (error) {
        uppy.emit('upload-error', uppy.getFile(file.id), new Error(messageFor(error), { cause: error }));
      }
      uppy.emit('preprocess-complete', uppy.getFile(file.id));
    }
  });

  async function prepare(file: File, data: Blob): Promise<void> {
    if (file.meta.final instanceof ApiError) throw file.meta.final;
    const note = report.note();
    if (note !== '') uppy.setFileMeta(file.id, { note });
    const title = givenTitle(file);
    const earlier = await resumptions.lookUp(keyOf(file.id), data, title);
    if (uppy.getFile(file.id) === undefined) return;
    if (earlier !== null) {
      const retitle = title !== null && !earlier.complete && earlier.title !== title;
      resumed.set(file.id, { retitle, sent: false });
      if (retitle && earlier.title !== null) uppy.info(`Resuming “${earlier.title}”, now titled “${title}”.`, 'info', INFO_MS);
    }
    const parts = earlier === null ? (api.link === null ? partsFor(data.size) : 1) : (earlier.previous.parallelUploadUrls?.length ?? 1);
    uppy.setFileState(file.id, { tus: { parallelUploads: parts } });
  }

  const uploaderOf = (id: string) => uppy.getPlugin('Tus')?.uploaders[id];

  /** Send all parts again, because the server can no longer join these. */
  function startOver(request: HttpRequest): void {
    const id = requests.fileOf(request);
    const uploader = id === undefined ? null : uploaderOf(id);
    if (id === undefined || !uploader) return;
    void resumptions.discard(keyOf(id)).catch(() => undefined);
    // tus-js-client recreates missing parts, but stores their URLs only if it has no storage key (upload.js:840).
    Object.assign(uploader, { _parallelUploadUrls: null, _urlStorageKey: null });
  }

  uppy.on('upload-error', (file, error) => {
    if (file === undefined) return;
    // Read first: an aborted request loses its response.
    const problem = toApiError(error);
    // tus-js-client keeps sending the other parts after one was rejected.
    requests.end(file.id);
    // Why no other try can upload it. "Try again" tries all files.
    if (!canTryAgain(problem)) uppy.setFileMeta(file.id, { final: problem });
  });

  // tus-js-client forgets the URLs of parts that it was asking about when it was paused.
  const restoreUrls = (id: string) => {
    const previous = resumptions.known(keyOf(id));
    if (previous !== null) uploaderOf(id)?.resumeFromPreviousUpload(previous);
  };
  // A paused upload in parts ignores every later failure: abort() sets `_aborted` (upload.js:419), _emitError checks it
  // (:445), and only an upload without parts resets it on start (:362). This listener runs before the one of @uppy/tus
  // that starts the upload.
  const clearAborted = (id: string) => {
    const uploader = uploaderOf(id);
    if (uploader) Object.assign(uploader, { _aborted: false });
  };
  uppy.on('upload-pause', (file, isPaused) => {
    if (file !== undefined) (isPaused ? restoreUrls : clearAborted)(file.id);
  });
  uppy.on('pause-all', () => uppy.getFiles().forEach((file) => restoreUrls(file.id)));
  uppy.on('resume-all', () => uppy.getFiles().forEach((file) => clearAborted(file.id)));

  uppy.on('file-removed', (file) => {
    requests.end(file.id);
    resumed.delete(file.id);
    // @uppy/tus terminates an upload itself, but not one in parts.
    if (!file.progress.uploadComplete) void resumptions.discard(keyOf(file.id)).catch(() => undefined);
  });

  uppy.on('upload-success', (file, response) => {
    if (file === undefined) return;
    const id = response.body?.xhr.getResponseHeader('Video-Id') ?? lastSegment(response.uploadURL ?? '');
    uppy.setFileState(file.id, { uploadURL: addressOf(`/watch/${id}`, root) });
    const title = String(file.meta.title || file.name);
    const earlier = resumed.get(file.id);
    const titled = earlier === undefined || api.link !== null ? Promise.resolve(title) : finalTitle(id, title, earlier.retitle && earlier.sent);
    void titled.catch(() => title).then((title) => report.onUploaded({ id, title }));
    requests.end(file.id);
  });

  /** Return the title after a resumed upload. The server has the one given when it began, perhaps in another browser. */
  async function finalTitle(id: string, title: string, retitle: boolean): Promise<string> {
    if (!retitle) return (await api.video(id, true)).title;
    await api.change(id, { title });
    return title;
  }

  uppy.on('state-update', (_, state) => {
    // Restored uploads that wait for their files are not in progress.
    report.onBusy(state.recoveredState === null && Object.keys(state.currentUploads).length > 0);
    const inProgress = filesInProgress(uppy);
    report.onPaused(inProgress.length > 0 && inProgress.every((file) => file.isPaused));
    const failed = Object.values(state.files).filter((file) => file.error);
    report.onFailed(failed.map((file) => ({ id: file.id, name: file.meta.name, reason: String(file.error) })));
  });
  return uppy;
}

/** Files that the user has started and that have neither finished nor failed. */
export function filesInProgress(uppy: Sender): File[] {
  const started = new Set(Object.values(uppy.getState().currentUploads).flatMap((upload) => upload.fileIDs));
  return uppy.getFiles().filter((file) => started.has(file.id) && !file.progress.uploadComplete && !file.error);
}

function partsFor(bytes: number): number {
  return bytes >= PARALLEL_FROM_BYTES && roundTripMs() >= FAR_MS ? PARALLEL_PARTS : 1;
}

/** The shortest time in which the server has answered this page (W3C Resource Timing), or 0 if it never has. */
function roundTripMs(): number {
  const answers = performance.getEntriesByType('resource') as PerformanceResourceTiming[];
  const api = answers.filter(({ name, responseStart }) => name.includes('/api/') && responseStart > 0);
  return api.length > 0 ? Math.min(...api.map(({ requestStart, responseStart }) => responseStart - requestStart)) : 0;
}

/** The title, or null if the user gave none. */
function givenTitle(file: File): string | null {
  const title = String(file.meta.title || '');
  return title === '' || title === (file.meta.defaultTitle ?? titleFor(file)) ? null : title;
}

function titleFor(file: File): string {
  if (file.source !== 'Webcam' && file.source !== 'ScreenCapture') return titleFromFilename(file.name ?? '');
  return `Recording from ${new Date().toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'short' })}`;
}

function lastSegment(url: string): string {
  return url.slice(url.lastIndexOf('/') + 1);
}
