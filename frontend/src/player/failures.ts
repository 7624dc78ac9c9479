/** What to do about a Shaka error: nothing, reload, or tell the viewer. */

import type shaka from 'shaka-player/dist/shaka-player.ui-es2021.js';

// Shaka's code cannot be imported outside a browser. The types check these numbers.
const LOAD_INTERRUPTED: shaka.util.Error.Code.LOAD_INTERRUPTED = 7000;
const OPERATION_ABORTED: shaka.util.Error.Code.OPERATION_ABORTED = 7001;
const BAD_HTTP_STATUS: shaka.util.Error.Code.BAD_HTTP_STATUS = 1001;
const CRITICAL: shaka.util.Error.Severity.CRITICAL = 2;

type Consequence = 'none' | 'reload' | 'report';

interface ShakaError {
  code: number;
  severity: number;
  data: unknown[];
}

/** For an error during playback. Shaka continues by itself after most recoverable ones. */
export function onPlayError(error: unknown): Consequence {
  if (!isShakaError(error) || isInterruption(error)) return 'none';
  // Shaka calls a rejected playlist update "recoverable", but an expired grant never recovers.
  const rejected = error.code === BAD_HTTP_STATUS && [401, 403].includes(Number(error.data[1]));
  return error.severity === CRITICAL || rejected ? 'reload' : 'none';
}

/** For a failed load, which leaves nothing playing. */
export function onLoadError(error: unknown): Consequence {
  if (isShakaError(error) && isInterruption(error)) return 'none';
  return onPlayError(error) === 'reload' ? 'reload' : 'report';
}

function isInterruption(error: ShakaError): boolean {
  return error.code === LOAD_INTERRUPTED || error.code === OPERATION_ABORTED;
}

function isShakaError(error: unknown): error is ShakaError {
  return typeof error === 'object' && error !== null && 'code' in error && 'severity' in error && 'data' in error;
}
