/** Which failed upload requests are worth retrying. */

import type { DetailedError } from 'tus-js-client';

import { ApiError } from '../api/errors';

/** tus-js-client asks for the upload's current state before the next attempt, which resolves these. */
const RETRYABLE_STATUSES = [401, 404, 408, 409, 410, 423, 425, 429, 460];
const FINAL_CODES = ['too_many_uploads', 'storage_full', 'file_unreadable'];

/** Turn an upload error into an ApiError. Without a response it is `network`, unless the cause is known. */
export function toApiError(error: Error | DetailedError): ApiError {
  if (error instanceof ApiError) return error;
  const response = 'originalResponse' in error ? error.originalResponse : null;
  if (response !== null) return ApiError.from(response.getStatus(), response.getBody());
  // tus-js-client calls it `causingError`; @uppy/tus wraps that once more.
  const cause = 'causingError' in error ? error.causingError : error.cause;
  return cause instanceof Error ? toApiError(cause) : new ApiError('network', 0, error.message);
}

/** Whether another attempt may succeed without the user doing anything except signing in. */
export function isRetryable(error: ApiError): boolean {
  if (FINAL_CODES.includes(error.code)) return false;
  // A Wi-Fi login page answers every request with 200.
  return error.status < 400 || error.status >= 500 || RETRYABLE_STATUSES.includes(error.status);
}
