/** Resumes uploads that were in progress when the page was closed or reloaded. */

import { filesInProgress, type Sender } from './sending';

/** A page that is being reloaded keeps the lock a moment longer. */
const RELOAD_MS = 1_000;

/**
 * Resolves to whether this tab may restore the uploads of this uploader. It keeps that right until it is closed: two tabs would restore the
 * same uploads.
 */
export function acquireRestoreLock(uploader: string): Promise<boolean> {
  // Browsers offer locks to secure pages only. Elsewhere nothing tells tabs apart.
  if (!('locks' in navigator)) return Promise.resolve(true);
  return new Promise((resolve) => {
    navigator.locks
      .request(`${uploader}-uploads`, { signal: AbortSignal.timeout(RELOAD_MS) }, () => {
        resolve(true);
        return new Promise(() => undefined);
      })
      .catch(() => resolve(false));
  });
}

/** Keep files that are chosen while those of the last visit are being read: Uppy's restoring replaces the whole list. */
export function keepChosen(uppy: Sender): void {
  let chosen = {};
  uppy.on('state-update', (before, _, patch) => {
    if (patch && 'recoveredState' in patch && 'currentUploads' in patch) chosen = before.files;
  });
  uppy.on('restored', () => uppy.setState({ files: { ...chosen, ...uppy.getState().files } }));
}

/** Send restored uploads through preparation again, which asks the server how much it has. */
export function rerunPreparation(uppy: Sender): void {
  const uploads = Object.entries(uppy.getState().currentUploads);
  uppy.setState({ currentUploads: Object.fromEntries(uploads.map(([id, upload]) => [id, { ...upload, step: 0 }])) });
}

/**
 * Resume automatically what was uploading when the page closed, once every file is available again.
 *
 * The panel's button (`restore-confirmed`) does more: it starts files that were only chosen, retries rejected ones and
 * ends pauses. So a paused upload waits for that button.
 */
export function resumeRestored(uppy: Sender): void {
  const { recoveredState, currentUploads } = uppy.getState();
  if (recoveredState === null || uppy.getFiles().some((file) => file.isGhost)) return;
  const inProgress = filesInProgress(uppy);
  if (inProgress.length === 0 || inProgress.some((file) => file.isPaused)) return;
  uppy.setState({ recoveredState: null });
  for (const id of Object.keys(currentUploads)) void uppy.restore(id);
}
