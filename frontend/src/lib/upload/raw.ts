/** Upload as the raw body of one POST. XMLHttpRequest, because fetch reports no upload progress. */

import { ApiError } from '../api/errors';
import type { UploadAnswer } from '../api/types';
import type { UploadRequest } from './transport';

export function uploadRaw({ file, title, signal, onProgress }: UploadRequest): Promise<UploadAnswer> {
  const { promise, resolve, reject } = withResolvers<UploadAnswer>();
  const request = new XMLHttpRequest();
  const abort = () => request.abort();

  request.open('POST', `/api/videos?${new URLSearchParams({ filename: file.name, title })}`);
  request.setRequestHeader('content-type', file.type || 'application/octet-stream');
  request.upload.onprogress = (event) => onProgress(event.loaded);
  request.onload = () => {
    if (request.status === 201) {
      try {
        resolve(JSON.parse(request.responseText) as UploadAnswer);
      } catch {
        reject(new ApiError('unexpected_answer', 201, 'not JSON'));
      }
    } else {
      reject(ApiError.from(request.status, request.responseText));
    }
  };
  request.onerror = () => reject(new ApiError('network', 0, 'the connection broke'));
  request.onabort = () => reject(new ApiError('cancelled', 0, 'cancelled'));
  signal.addEventListener('abort', abort);
  request.onloadend = () => signal.removeEventListener('abort', abort);

  request.send(file);
  if (signal.aborted) request.abort();
  return promise;
}

function withResolvers<T>() {
  let resolve!: (value: T) => void;
  let reject!: (reason: unknown) => void;
  const promise = new Promise<T>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}
