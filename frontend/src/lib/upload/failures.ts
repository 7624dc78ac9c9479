/** Which failures of an upload's requests pass by themselves. */

import type { DetailedError } from 'tus-js-client';

import { ApiError } from '../api/errors';

/** Where else the upload stands, who holds it, and whether it is still there, is asked for before the next attempt. */
const ASKED_AGAIN = [401, 404, 408, 409, 410, 423, 425, 429, 460];
const FINAL_CODES = ['too_many_uploads', 'storage_full'];

/** Read what the server has said; no answer at all is `network`. */
export function problemOf(error: Error | DetailedError): ApiError {
  const answer = 'originalResponse' in error ? error.originalResponse : null;
  if (answer === null) return new ApiError('network', 0, error.message);
  return ApiError.from(answer.getStatus(), answer.getBody());
}

/** Whether another attempt may go well without anybody doing anything (except to sign in). */
export function isWorthRetrying(problem: ApiError): boolean {
  if (FINAL_CODES.includes(problem.code)) return false;
  // A Wi-Fi's sign-in page answers 200 to anything.
  return problem.status < 400 || problem.status >= 500 || ASKED_AGAIN.includes(problem.status);
}
