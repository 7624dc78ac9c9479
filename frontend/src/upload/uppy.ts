/** Uppy's panel as this site configures it, with uploads that survive a reload. */

import '@uppy/core/css/style.min.css';
import Dashboard from '@uppy/dashboard';
import '@uppy/dashboard/css/style.min.css';
import GoldenRetriever from '@uppy/golden-retriever';
import ScreenCapture from '@uppy/screen-capture';
import '@uppy/screen-capture/css/style.min.css';
import Webcam from '@uppy/webcam';
import '@uppy/webcam/css/style.min.css';
import { DefaultHttpStack } from 'tus-js-client';

import type { Api } from '../api/client';
import { correctPanel } from './panel';
import type { RetryPolicy } from './retrying';
import { acquireRestoreLock, keepChosen, rerunPreparation, resumeRestored } from './restoring';
import { createSender, type UploadReport } from './sending';
import { CAMERA_TEXTS, PANEL_TEXTS, SCREEN_TEXTS } from './texts';
import './uppy.css';

/** Files up to this size are copied to the browser's storage, so that users need not choose them again after a reload. */
const MAX_STORED_FILE_BYTES = 1_000_000_000;
const MAX_STORED_BYTES = 3_000_000_000;
const STORED_MS = 7 * 24 * 3600 * 1000;

export async function createPanel(api: Api, retryPolicy: RetryPolicy, report: UploadReport): Promise<HTMLElement> {
  const panel = document.createElement('div');
  panel.className = 'uploader';

  const httpStack = new DefaultHttpStack({});
  const uppy = createSender({ api, retryPolicy, report, httpStack, root: document.baseURI }).use(Dashboard, {
    target: panel,
    inline: true,
    width: '100%',
    height: 360,
    theme: 'auto',
    metaFields: [{ id: 'title', name: 'Title', placeholder: 'Shown to viewers' }],
    note: api.link === null ? 'Any common format. Ready to watch within seconds.' : 'Any common format.',
    proudlyDisplayPoweredByUppy: false,
    showLinkToFileUploadResult: api.link === null,
    showRemoveButtonAfterComplete: true,
    singleFileFullScreen: false,
    disableThumbnailGenerator: true,
    locale: { strings: PANEL_TEXTS },
  });
  correctPanel(panel, uppy);
  uppy.on('dashboard:file-edit-complete', (file) => {
    if (file !== undefined) uppy.setFileMeta(file.id, { name: file.meta.title || file.name });
  });
  // Browsers give only secure pages access to the camera and screen.
  if (window.isSecureContext) {
    uppy.use(Webcam, {
      modes: ['video-audio'],
      showVideoSourceDropdown: true,
      showRecordingLength: true,
      locale: { strings: CAMERA_TEXTS },
    });
    uppy.use(ScreenCapture, {
      enableScreenshots: false,
      // The default is 5 frames per second at 1280 × 720.
      displayMediaConstraints: { video: { frameRate: { ideal: 30, max: 30 } } },
      locale: { strings: SCREEN_TEXTS },
    });
  }

  if (await acquireRestoreLock(uppy.getID())) {
    keepChosen(uppy);
    uppy.on('restored', () => {
      rerunPreparation(uppy);
      resumeRestored(uppy);
    });
    uppy.on('files-added', () => resumeRestored(uppy));
    const indexedDB = { name: 'uppy-blobs', maxFileSize: MAX_STORED_FILE_BYTES, maxTotalSize: MAX_STORED_BYTES };
    uppy.use(GoldenRetriever, { expires: STORED_MS, indexedDB });
  }
  return panel;
}
