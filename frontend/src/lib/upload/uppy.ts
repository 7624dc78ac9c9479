/** Uppy as this site uses it: its panel, and what it remembers between visits. */

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
import type { Patience } from './patience';
import { remembersAlone } from './remembering';
import { beginAgain, goOnWithRestored } from './restoring';
import { createSender } from './sending';
import { CAMERA_TEXTS, PANEL_TEXTS, SCREEN_TEXTS } from './texts';
import type { UploadReport } from './uploads.svelte';
import './uppy.css';

/** Files up to this size are copied into the browser's storage, so that a reload does not ask for them again. */
const REMEMBERED_BYTES = 1024 ** 3;
const REMEMBERED_BYTES_IN_ALL = 3 * 1024 ** 3;
const REMEMBERED_MS = 7 * 24 * 3600 * 1000;

export async function createPanel(api: Api, patience: Patience, report: UploadReport): Promise<HTMLElement> {
  const panel = document.createElement('div');
  panel.className = 'uploader';

  const httpStack = new DefaultHttpStack({});
  const uppy = createSender({ api, patience, report, httpStack, origin: location.origin }).use(Dashboard, {
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
  });
  // Browsers give camera and screen to secure pages alone.
  if (window.isSecureContext) {
    uppy.use(Webcam, {
      modes: ['video-audio'],
      showVideoSourceDropdown: true,
      showRecordingLength: true,
      locale: { strings: CAMERA_TEXTS },
    });
    uppy.use(ScreenCapture, {
      enableScreenshots: false,
      // By itself it records five pictures a second, of 1280 by 720.
      displayMediaConstraints: { video: { frameRate: { ideal: 30, max: 30 } } },
      locale: { strings: SCREEN_TEXTS },
    });
  }

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
