/** Uppy as this site uses it: its panel, its uploads by tus, and what both remember. */

import Uppy, { type Meta, type UppyFile } from '@uppy/core';
import '@uppy/core/css/style.min.css';
import Dashboard from '@uppy/dashboard';
import '@uppy/dashboard/css/style.min.css';
import GoldenRetriever from '@uppy/golden-retriever';
import ScreenCapture from '@uppy/screen-capture';
import '@uppy/screen-capture/css/style.min.css';
import Tus, { type TusBody } from '@uppy/tus';
import Webcam from '@uppy/webcam';
import '@uppy/webcam/css/style.min.css';
import { DefaultHttpStack } from 'tus-js-client';

import type { Api } from '../api/client';
import { sentence } from '../api/errors';
import { titleOf } from '../format';
import { isWorthRetrying, problemOf } from './failures';
import { LiveRequests, PatientHttpStack } from './http';
import { type Patience, RETRY_DELAYS_MS } from './patience';
import { remembersAlone } from './remembering';
import { Resumptions } from './resumptions';
import { CAMERA_TEXTS, CORE_TEXTS, PANEL_TEXTS, SCREEN_TEXTS } from './texts';
import type { UploadReport } from './uploads.svelte';
import './uppy.css';

type File = UppyFile<Meta, TusBody>;

/**
 * Larger files are sent in four parts at once, since one connection does not fill a long line. Putting them together
 * again takes the store a while, which pays for files that take a minute or longer. Browsers open six connections to a
 * server, so that two are left for the rest of the site; that is also why one file is sent at a time.
 */
const PARALLEL_FROM_BYTES = 200 * 1024 ** 2;
const PARALLEL_PARTS = 4;

/** Files up to this size are copied into the browser's storage, so that a reload does not ask for them again. */
const REMEMBERED_BYTES = 1024 ** 3;
const REMEMBERED_BYTES_IN_ALL = 3 * 1024 ** 3;
const REMEMBERED_MS = 7 * 24 * 3600 * 1000;

/** Some that systems do not know for video. */
const ENDINGS = ['.mkv', '.ts', '.mts', '.m2ts', '.mxf', '.vob', '.flv', '.wmv', '.avi', '.mpg', '.mov', '.ogv', '.rm'];

export async function createPanel(api: Api, patience: Patience, report: UploadReport): Promise<HTMLElement> {
  const endpoint = `${location.origin}/api/uploads`;
  // By this key @uppy/tus asks the URL storage (its getFingerprint.js).
  const keyOf = (id: string) => ['tus', id, endpoint].join('-');
  const resumptions = new Resumptions(api, patience, location.origin);
  const requests = new LiveRequests((id) => uppy.getFile(id)?.error == null);
  const panel = document.createElement('div');
  panel.className = 'uploader';

  const restrictions = { minFileSize: 1, allowedFileTypes: ['video/*', 'audio/*', ...ENDINGS] };
  const uppy: Uppy<Meta, TusBody> = new Uppy<Meta, TusBody>({
    id: 'vodbucket',
    // What fails is told on the page; errors in the console are the page's own.
    logger: { debug: () => undefined, warn: () => undefined, error: (...words: unknown[]) => console.warn(...words) },
    restrictions,
    locale: { strings: CORE_TEXTS, pluralize: (count) => (count === 1 ? 0 : 1) },
  })
    .use(Dashboard, {
      target: panel,
      inline: true,
      width: '100%',
      height: 360,
      theme: 'auto',
      metaFields: [{ id: 'title', name: 'Title', placeholder: 'What viewers see' }],
      note: 'Any common format. You can watch seconds after the upload.',
      proudlyDisplayPoweredByUppy: false,
      showLinkToFileUploadResult: true,
      showRemoveButtonAfterComplete: true,
      singleFileFullScreen: false,
      disableThumbnailGenerator: true,
      locale: { strings: PANEL_TEXTS },
    })
    .use(Tus, {
      endpoint,
      limit: 1,
      retryDelays: RETRY_DELAYS_MS,
      removeFingerprintOnSuccess: true,
      allowedMetaFields: ['title', 'name', 'type'],
      urlStorage: resumptions,
      httpStack: new PatientHttpStack(new DefaultHttpStack({}), patience, { onSent: report.onSent }),
      onBeforeRequest: (request, file) => requests.begin(file.id, request),
      onShouldRetry: (error) => {
        const goesOn = isWorthRetrying(problemOf(error));
        if (goesOn) report.onTrouble();
        return goesOn;
      },
      // Uppy shows the message as it is.
      onError: (error) => (error.message = sentence(problemOf(error))),
    });
  // Browsers give camera and screen to secure pages alone.
  if (window.isSecureContext) {
    uppy.use(Webcam, {
      modes: ['video-audio'],
      showVideoSourceDropdown: true,
      showRecordingLength: true,
      locale: { strings: CAMERA_TEXTS },
    });
    uppy.use(ScreenCapture, { enableScreenshots: false, locale: { strings: SCREEN_TEXTS } });
  }

  // The parts of a large file are each small enough, so that the server could only say it at the end.
  void api.maxUploadBytes().then(
    (maxFileSize) => uppy.setOptions({ restrictions: { ...restrictions, maxFileSize } }),
    () => undefined,
  );

  uppy.on('file-added', (file) => {
    if (file.meta.title === undefined) uppy.setFileMeta(file.id, { title: titleFor(file) });
  });

  uppy.addPreProcessor(async (ids) => {
    for (const file of uppy.getFilesByIds(ids)) {
      if (file.progress.uploadComplete || !(file.data instanceof Blob)) continue;
      uppy.emit('preprocess-progress', file, { mode: 'indeterminate', message: 'Looking for what is there already' });
      const previous = await resumptions.learn(keyOf(file.id), file.data).catch(() => null);
      uppy.emit('preprocess-complete', uppy.getFile(file.id));
      if (uppy.getFile(file.id) === undefined) continue;
      const parts = previous?.parallelUploadUrls?.length ?? (previous === null && isLarge(file) ? PARALLEL_PARTS : 1);
      uppy.setFileState(file.id, { tus: { parallelUploads: parts } });
    }
  });

  // tus-js-client lets the other parts go on when one was refused.
  uppy.on('upload-error', (file) => {
    if (file !== undefined) requests.end(file.id);
  });

  // tus-js-client forgets the addresses of parts that it was asking about when it was paused.
  const remindOf = (id: string) => {
    const previous = resumptions.known(keyOf(id));
    if (previous !== null) uppy.getPlugin('Tus')?.uploaders[id]?.resumeFromPreviousUpload(previous);
  };
  uppy.on('upload-pause', (file, isPaused) => {
    if (file !== undefined && isPaused) remindOf(file.id);
  });
  uppy.on('pause-all', () => uppy.getFiles().forEach((file) => remindOf(file.id)));

  uppy.on('file-removed', (file) => {
    // @uppy/tus ends a plain upload itself, one in parts not.
    if (!file.progress.uploadComplete) void resumptions.drop(keyOf(file.id)).catch(() => undefined);
  });

  uppy.on('upload-success', (file, response) => {
    if (file === undefined) return;
    const id = response.body?.xhr.getResponseHeader('Video-Id') ?? lastSegment(response.uploadURL ?? '');
    uppy.setFileState(file.id, { uploadURL: `${location.origin}/watch/${id}` });
    report.onUploaded({ id, title: String(file.meta.title || file.name) });
  });

  uppy.on('state-update', (_, state) => {
    // What was restored and waits for its files is not under way.
    report.onBusy(state.recoveredState === null && Object.keys(state.currentUploads).length > 0);
    const failed = Object.values(state.files).filter((file) => file.error);
    report.onFailed(failed.map((file) => ({ id: file.id, name: file.name ?? '', reason: String(file.error) })));
  });

  if (await remembersAlone()) {
    uppy.on('restored', () => {
      beginAgain(uppy);
      goOnWithRestored(uppy);
    });
    uppy.on('files-added', () => goOnWithRestored(uppy));
    const indexedDB = { name: 'uppy-blobs', maxFileSize: REMEMBERED_BYTES, maxTotalSize: REMEMBERED_BYTES_IN_ALL };
    uppy.use(GoldenRetriever, { expires: REMEMBERED_MS, indexedDB });
  }
  return panel;
}

/** An upload that is restored goes through the first step again, where it learns what the server has. */
function beginAgain(uppy: Uppy<Meta, TusBody>): void {
  const uploads = Object.entries(uppy.getState().currentUploads);
  uppy.setState({ currentUploads: Object.fromEntries(uploads.map(([id, upload]) => [id, { ...upload, step: 0 }])) });
}

/** Go on by itself with what was being uploaded when the page was left, once every file is there again. */
function goOnWithRestored(uppy: Uppy<Meta, TusBody>): void {
  const { recoveredState } = uppy.getState();
  const files = uppy.getFiles();
  if (recoveredState === null || files.some((file) => file.isGhost)) return;
  const underWay = files.filter((file) => file.progress.uploadStarted && !file.progress.uploadComplete);
  if (underWay.every((file) => file.isPaused)) return;
  uppy.emit('restore-confirmed');
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
