/** API errors by their stable code, and the message shown for each. */

export class ApiError extends Error {
  constructor(
    readonly code: string,
    readonly status: number,
    message: string,
    /** When to try again, if the server says so. */
    readonly retryAfterSeconds: number | null = null,
  ) {
    super(message);
    this.name = 'ApiError';
  }

  /** Build an error from a response, which may come from a proxy in between. */
  static from(status: number, body: string, retryAfter: string | null = null): ApiError {
    const seconds = retryAfter !== null && /^\d+$/.test(retryAfter) ? Number(retryAfter) : null;
    try {
      const parsed: unknown = JSON.parse(body);
      if (isProblem(parsed)) return new ApiError(parsed.code, status, parsed.error, seconds);
    } catch {
      // Not JSON, so a proxy's error page. Only the status is of use.
    }
    return new ApiError(status === 413 ? 'proxy_limit' : 'unexpected_answer', status, `HTTP ${status}`, seconds);
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

const MESSAGES: Record<string, string> = {
  // The site's own codes, for failures that the API does not report.
  network: 'Couldn’t reach the server. Check your connection and try again.',
  unexpected_answer: 'The server sent an unexpected response. Try again in a moment.',
  proxy_limit: 'A proxy in front of the server rejects requests of this size. Ask your administrator to raise its limit.',
  unplayable: 'This browser can’t play any of this video’s formats.',
  upload_too_large: 'This file is larger than the server allows.',
  file_unreadable: 'This file was changed or moved. Choose it again.',
  unsupported_type: 'This isn’t a video or audio file.',
  too_many_uploads: 'Too many uploads are unfinished. Finish or cancel some, then try again.',
  storage_full: 'Storage is full. Delete some videos, or ask your administrator for more space.',
  upload_link_rejected: 'This upload link no longer works. Ask the sender for a new one.',
  upload_link_used_up: 'No more videos can be uploaded with this link. Ask the sender for a new one.',
  upload_link_not_found: 'This upload link was already withdrawn.',
  partial_unfinished: 'Part of this file wasn’t uploaded. Try again.',
  account_refused: 'Your account has no access here. Ask your administrator.',
  sign_in_unavailable: 'The sign-in service isn’t responding. Try again later.',
  sign_in_failed: 'Signing in didn’t work. Try again, or ask your administrator.',
  sign_in_expired: 'Signing in took too long. Try again.',
  unauthorized: 'Sign in to continue.',
  invalid_address:
    'This isn’t a link to a file. Paste one that begins with https://, http:// or ftp:// and has no password, or a magnet link.',
  address_refused: 'This server doesn’t fetch from this address. Only files on the public internet can be added.',
  nothing_to_cancel: 'There’s nothing to cancel: this has already ended.',
  cancelled: 'Cancelled.',
  fetch_not_found: 'There’s nothing at this link. Check it for typos.',
  fetch_denied: 'The other server doesn’t let anyone download this file. It may ask for a sign-in.',
  fetch_refused: 'The other server refused to send this file.',
  fetch_failed: 'The other server failed to send this file. Try again later.',
  fetch_unreachable: 'The other server can’t be reached. Check the link, or try again later.',
  fetch_timeout: 'The other server took too long. Try again later.',
  fetch_broken: 'The connection to the other server keeps breaking. Try again later.',
  fetch_changed: 'The file at this link keeps changing. Try again once it’s complete.',
  fetch_web_page: 'This link leads to a web page, not to a video file. There may be a video on that page.',
  fetch_too_large: 'The file at this link is larger than this server allows.',
  empty_upload: 'This file is empty.',
  torrent_no_video: 'This torrent has no video.',
  ytdlp_playlist: 'This link leads to several videos. Paste the link of one of them.',
  ytdlp_unsupported: 'There’s no video on this page, or none that this server can download.',
  ytdlp_unavailable: 'The site doesn’t let this server download the video. It may be private, deleted, or only for people who sign in.',
  ytdlp_live: 'Live streams can’t be added. Try again once it has ended.',
  ytdlp_failed: 'The video on this page couldn’t be downloaded. Try again later, or ask your administrator to update yt-dlp.',
  ytdlp_missing: 'This server can’t download videos of web pages. Ask your administrator to install yt-dlp.',
  unsupported_image: 'This isn’t a JPEG, PNG, WebP or AVIF image, or it’s damaged.',
  animated_image: 'Animations can’t be stored as images. Upload a video instead.',
  image_too_large: 'This image is too large. Images can have up to 32 MB and 50 million pixels.',
  images_unavailable: 'This server can’t process images right now. Try again later.',
  image_not_found: 'This image doesn’t exist. It may have been deleted.',
  captions_too_large: 'This file is too large. Captions can be up to 2 MB.',
  invalid_language: 'This isn’t a valid language tag. Try one like en, pt-BR or zh-Hant.',
  too_many_captions: 'This video has reached its limit of caption languages. Delete some first.',
  captions_not_found: 'These captions were already deleted.',
  invalid_id: 'This video doesn’t exist. Check the link for typos.',
  video_not_found: 'This video doesn’t exist. It may have been deleted.',
  source_gone: 'The original file is no longer stored. Upload the video again.',
  slug_taken: 'Another video has this address. Choose another.',
  not_ready: 'This video isn’t ready to play yet.',
  access_code_rejected: 'This link has expired, was withdrawn, or is incomplete.',
  passphrase_required: 'This link needs a passphrase.',
  passphrase_wrong: 'That isn’t the passphrase. Check capital letters and spaces.',
  too_many_attempts: 'Too many wrong attempts. Wait a moment, then try again.',
  grant_rejected: 'This playback link has expired.',
  store_unavailable: 'Storage isn’t responding right now. Try again shortly.',
  store_error: 'Storage rejected the request. Try again, or contact your administrator.',
  store_denied: 'Storage denied access. Ask your administrator to check the credentials.',
};

/** The message to show: the site's own if it knows the code, otherwise the API's. */
export function messageFor(error: unknown): string {
  if (!(error instanceof ApiError)) return 'Something went wrong. Reload the page and try again.';
  if (error.status === 429 && error.retryAfterSeconds !== null) {
    return `Too many attempts. Try again in ${formatWait(error.retryAfterSeconds)}.`;
  }
  return MESSAGES[error.code] ?? error.message;
}

/** Why a video failed: the site's own sentence if it knows the code, otherwise the worker's. */
export function failureMessage({ code, message }: { code: string; message: string }): string {
  return MESSAGES[code] ?? message;
}

/** How long to wait, rounded up: `5 seconds`, `1 minute`. */
function formatWait(seconds: number): string {
  const [count, unit] = seconds < 100 ? [Math.max(1, Math.ceil(seconds)), 'second'] : [Math.ceil(seconds / 60), 'minute'];
  return `${count} ${unit}${count === 1 ? '' : 's'}`;
}

/** Failures that go away when the user waits, or makes room first. */
const PASSING_STATUSES = [408, 409, 410, 423, 425, 429, 460, 507];
/** The file is at fault, so every try ends the same. The second half are codes of failed encodings. */
const FINAL_CODES = [
  ...['unplayable', 'file_unreadable', 'captions_too_large', 'source_gone', 'unsupported_type'],
  ...['unsupported_media', 'not_a_video', 'unsupported_codec', 'unsupported_colours', 'picture_too_large'],
  ...['video_too_long', 'file_incomplete', 'source_damaged', 'source_missing'],
  ...['drm_protected', 'several_recordings', 'late_stream'],
  ...['invalid_address', 'address_refused', 'fetch_too_large', 'empty_upload', 'torrent_no_video'],
  ...['ytdlp_playlist', 'ytdlp_unsupported'],
];

/** What a button says that queues a failed video again. The retry of a web page looks for a video on it. */
export function retryText(code: string): string {
  return code === 'fetch_web_page' ? 'Find the video' : 'Try again';
}

/** Whether a video failed before its file was here. */
export function isDownloadFailure(code: string): boolean {
  return /^(fetch|torrent|ytdlp)_/.test(code);
}

export function isFinalCode(code: string): boolean {
  return FINAL_CODES.includes(code);
}

/** Whether to offer another try: it may succeed, because the file and the request are not at fault. */
export function canTryAgain(error: unknown): boolean {
  if (!(error instanceof ApiError)) return true;
  if (isFinalCode(error.code)) return false;
  return error.status < 400 || error.status >= 500 || PASSING_STATUSES.includes(error.status);
}

export function hasCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof ApiError && codes.includes(error.code);
}

/** Whether the resource does not exist or no longer exists. Checks the status, because a HEAD response has no code. */
export function isGone(error: unknown): boolean {
  return error instanceof ApiError && [404, 410].includes(error.status);
}

/** Whether the same request may succeed a little later: there was no response, or the server failed. */
export function isTransient(error: unknown): boolean {
  return error instanceof ApiError && (error.code === 'network' || error.status >= 500);
}
