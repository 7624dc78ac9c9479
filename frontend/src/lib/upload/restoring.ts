/** What becomes of uploads that were under way when the page was left. */

import { filesUnderWay, type Sender } from './sending';

/** An upload that is restored goes through the first step again, where it learns what the server has. */
export function beginAgain(uppy: Sender): void {
  const uploads = Object.entries(uppy.getState().currentUploads);
  uppy.setState({ currentUploads: Object.fromEntries(uploads.map(([id, upload]) => [id, { ...upload, step: 0 }])) });
}

/**
 * Go on by itself with what was being uploaded when the page was left, once every file is there again.
 *
 * The button in the panel (`restore-confirmed`) does more: it starts what was only chosen, repeats what was refused and
 * ends pauses. So whoever has paused a file presses it.
 */
export function goOnWithRestored(uppy: Sender): void {
  const { recoveredState, currentUploads } = uppy.getState();
  if (recoveredState === null || uppy.getFiles().some((file) => file.isGhost)) return;
  const underWay = filesUnderWay(uppy);
  if (underWay.length === 0 || underWay.some((file) => file.isPaused)) return;
  uppy.setState({ recoveredState: null });
  for (const id of Object.keys(currentUploads)) void uppy.restore(id);
}
