/** How one file gets to the server. The queue knows this interface alone, so the protocol can change. */

import type { UploadAnswer } from '../api/types';

export interface UploadRequest {
  file: File;
  title: string;
  signal: AbortSignal;
  onProgress: (sentBytes: number) => void;
}

/** Resolves with the API's answer; rejects with an ApiError (`cancelled` after an abort). */
export type UploadTransport = (request: UploadRequest) => Promise<UploadAnswer>;
