/** Which failures of an upload's requests pass by themselves. */

import type { DetailedError } from 'tus-js-client';

import { ApiError } from '../api/errors';

/** Where else the upload stands, who holds it, and whether it is still there, is asked for before the next attempt. */
const ASKED_AGAIN = [401, 404, 408, 409, 410, 423, 425, 429, 460];
const GONE = [404, 410];
const FINAL_CODES = ['too_many_uploads', 'storage_full', 'file_unreadable'];

/** Read what the server has said; no answer at all is `network`, unless the reason is known. */
export function problemOf(error: Error | DetailedError): ApiError {
  if (error instanceof ApiError) return error;
  const answer = 'originalResponse' in error ? error.originalResponse : null;
  if (answer !== null) return ApiError.from(answer.getStatus(), answer.getBody());
  // tus-js-client calls it `causingError`; @uppy/tus wraps that once more.
  const cause = 'causingError' in error ? error.causingError : error.cause;
  return cause instanceof Error ? problemOf(cause) : new ApiError('network', 0, error.message);
}

/** Whether another attempt may go well without anybody doing anything (except to sign in). */
export function isWorthRetrying(problem: ApiError): boolean {
  if (FINAL_CODES.includes(problem.code)) return false;
  // A Wi-Fi's sign-in page answers 200 to anything.
  return problem.status < 400 || problem.status >= 500 || ASKED_AGAIN.includes(problem.status);
}

/** Whether there is no such thing, or no more. */
export function isGone(problem: ApiError): boolean {
  return GONE.includes(problem.status);
}
