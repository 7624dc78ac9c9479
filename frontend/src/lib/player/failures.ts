/** What follows from a Shaka error: nothing, another load, or a word to the viewer. */

import type shaka from 'shaka-player/dist/shaka-player.ui-es2021.js';

// The numbers are checked against Shaka's types; its code cannot be imported outside a browser.
const LOAD_INTERRUPTED: shaka.util.Error.Code.LOAD_INTERRUPTED = 7000;
const OPERATION_ABORTED: shaka.util.Error.Code.OPERATION_ABORTED = 7001;
const BAD_HTTP_STATUS: shaka.util.Error.Code.BAD_HTTP_STATUS = 1001;
const CRITICAL: shaka.util.Error.Severity.CRITICAL = 2;

export type Consequence = 'none' | 'reload' | 'report';

interface ShakaError {
  code: number;
  severity: number;
  data: unknown[];
}

/** For an error while playing. Shaka itself goes on after most recoverable ones. */
export function afterPlayError(error: unknown): Consequence {
  if (!isShakaError(error) || isInterruption(error)) return 'none';
  // A refused playlist update is "recoverable" to Shaka, but an expired grant never recovers by itself.
  const refused = error.code === BAD_HTTP_STATUS && [401, 403].includes(Number(error.data[1]));
  return error.severity === CRITICAL || refused ? 'reload' : 'none';
}

/** For a rejected load, which leaves nothing that could go on by itself. */
export function afterLoadError(error: unknown): Consequence {
  if (isShakaError(error) && isInterruption(error)) return 'none';
  return afterPlayError(error) === 'reload' ? 'reload' : 'report';
}

function isInterruption(error: ShakaError): boolean {
  return error.code === LOAD_INTERRUPTED || error.code === OPERATION_ABORTED;
}

function isShakaError(error: unknown): error is ShakaError {
  return typeof error === 'object' && error !== null && 'code' in error && 'severity' in error && 'data' in error;
}
