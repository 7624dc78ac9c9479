/** What can go wrong with a request, by stable code, and the sentences shown for it. */

/** The page's own codes, for what has no answer from the API. */
export type LocalCode = 'network' | 'unexpected_answer' | 'captions_too_large' | 'file_unreadable';

export class ApiError extends Error {
  constructor(
    readonly code: string,
    readonly status: number,
    message: string,
  ) {
    super(message);
    this.name = 'ApiError';
  }

  /** Turn an answer's status and body text into an error, whatever a proxy in between made of it. */
  static from(status: number, body: string): ApiError {
    try {
      const parsed: unknown = JSON.parse(body);
      if (isProblem(parsed)) return new ApiError(parsed.code, status, parsed.error);
    } catch {
      // Not JSON: an error page of a proxy. The status still says something.
    }
    return new ApiError(status === 413 ? 'upload_too_large' : 'unexpected_answer', status, `HTTP ${status}`);
  }
}

function isProblem(value: unknown): value is { error: string; code: string } {
  return (
    typeof value === 'object' &&
    value !== null &&
    'error' in value &&
    typeof value.error === 'string' &&
    'code' in value &&
    typeof value.code === 'string'
  );
}

const SENTENCES: Record<string, string> = {
  network: 'The connection failed. Check your network and try again.',
  unexpected_answer: 'The server gave an answer that this page does not understand. Try again in a moment.',
  upload_too_large: 'This file is larger than the server accepts.',
  file_unreadable: 'This file was changed or moved. Choose it again.',
  unsupported_type: 'This is neither a video nor sound.',
  too_many_uploads: 'Too many uploads are open. Finish or cancel some, and try again.',
  storage_full: 'The storage is full. Delete videos, or ask the administrator for more space.',
  partial_unfinished: 'The parts of this file did not fit together. Try again.',
  unauthorized: 'Please sign in.',
  captions_too_large: 'This file is too large for captions: they may have up to 2 MiB.',
  invalid_language: 'This is not a language tag. Examples: en, pt-BR, zh-Hant.',
  too_many_captions: 'This video has captions in as many languages as it can have. Delete some first.',
  captions_not_found: 'These captions are gone already.',
  video_not_found: 'There is no such video. It may have been deleted.',
  source_gone: 'The uploaded file is no longer stored. Upload the video again.',
  not_ready: 'This video cannot be played yet.',
  grant_rejected: 'The playback link has expired.',
  store_unavailable: 'The storage does not answer at the moment. Try again shortly.',
  store_error: 'The storage refused the request. Try again, or ask the administrator.',
  store_denied: 'The storage denies access. The administrator needs to check its credentials.',
};

/** The sentence for a person: ours where we know the code, else the API's own. */
export function sentence(error: unknown): string {
  if (!(error instanceof ApiError)) return 'Something went wrong. Reload the page and try again.';
  return SENTENCES[error.code] ?? error.message;
}

export function hasCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof ApiError && codes.includes(error.code);
}

/** Whether the same request may well succeed a little later: no answer at all, or a server in trouble. */
export function isPassing(error: unknown): boolean {
  return error instanceof ApiError && (error.code === 'network' || error.status >= 500);
}
