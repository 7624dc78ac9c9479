/** What to do about a Shaka error: nothing, reload, or tell the viewer. */

import type shaka from 'shaka-player/dist/shaka-player.ui-es2021.js';

// Shaka's code cannot be imported outside a browser. The types check these numbers.
const LOAD_INTERRUPTED: shaka.util.Error.Code.LOAD_INTERRUPTED = 7000;
const OPERATION_ABORTED: shaka.util.Error.Code.OPERATION_ABORTED = 7001;
const BAD_HTTP_STATUS: shaka.util.Error.Code.BAD_HTTP_STATUS = 1001;
const RESTRICTIONS_CANNOT_BE_MET: shaka.util.Error.Code.RESTRICTIONS_CANNOT_BE_MET = 4012;
const CONTENT_UNSUPPORTED: shaka.util.Error.Code.CONTENT_UNSUPPORTED_BY_BROWSER = 4032;
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
  // Shaka calls these "recoverable" in a growing playlist. But an expired grant never recovers, and what is gone belongs
  // to an encoding that another one has replaced.
  const lost = error.code === BAD_HTTP_STATUS && [401, 403, 404, 410].includes(Number(error.data[1]));
  return error.severity === CRITICAL || lost ? 'reload' : 'none';
}

/** For a failed load, which leaves nothing playing. */
export function onLoadError(error: unknown): Consequence {
  if (isShakaError(error) && isInterruption(error)) return 'none';
  return onPlayError(error) === 'reload' ? 'reload' : 'report';
}

/** Whether the browser supports none of the formats. */
export function isUnplayable(error: unknown): boolean {
  return isShakaError(error) && [RESTRICTIONS_CANNOT_BE_MET, CONTENT_UNSUPPORTED].includes(error.code);
}

function isInterruption(error: ShakaError): boolean {
  return error.code === LOAD_INTERRUPTED || error.code === OPERATION_ABORTED;
}

function isShakaError(error: unknown): error is ShakaError {
  return typeof error === 'object' && error !== null && 'code' in error && 'severity' in error && 'data' in error;
}
