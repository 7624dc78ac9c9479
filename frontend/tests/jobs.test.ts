import { describe, expect, it, vi } from 'vitest';

import type { Api } from '../src/api/client';
import { ApiError, failureMessage, isFinalCode, retryText } from '../src/api/errors';
import type { Status, Video } from '../src/api/types';
import { progressOf } from '../src/jobs/progress';
import { Library } from '../src/library/library.svelte';
import { status } from './status';

describe('progress in words', () => {
  it.each<[Partial<Status>, string, number | null, string]>([
    [{ stage: 'queued', status: 'queued' }, 'Waiting for a worker', null, ''],
    [{ stage: 'downloading', received_bytes: 1_200_000 }, 'Downloading', null, '1.20 MB'],
    [
      { stage: 'downloading', received_bytes: 1_000_000, total_bytes: 4_000_000, progress: 0.05, stage_progress: 0.25 },
      'Downloading',
      0.25,
      '1.00 MB of 4.00 MB',
    ],
    [{ stage: 'downloading', progress: 0.05 }, 'Downloading', 0.05, '5%'],
    [{ progress: 0.43, estimated_remaining_seconds: 120 }, 'Encoding', 0.43, '43% · 2 min left'],
    [{ stage: 'finalizing', progress: 0.97 }, 'Checking and publishing', 0.97, '97%'],
  ])('%o', (changes, stage, share, detail) => {
    expect(progressOf(status(changes))).toEqual({ stage, share, detail });
  });
});

describe('a failure', () => {
  it('has the site’s sentence, or the worker’s if the site knows none', () => {
    expect(failureMessage({ code: 'fetch_web_page', message: 'HTML' })).toMatch(/web page/);
    expect(failureMessage({ code: 'new_code', message: 'The worker says so.' })).toBe('The worker says so.');
  });

  it('of a link to a web page offers to find the video on it', () => {
    expect(isFinalCode('fetch_web_page')).toBe(false);
    expect(retryText('fetch_web_page')).toBe('Find the video');
    expect(retryText('fetch_timeout')).toBe('Try again');
  });

  it.each(['cancelled', 'fetch_not_found', 'fetch_timeout'])('%s may be tried again', (code) => {
    expect(isFinalCode(code)).toBe(false);
  });
});

describe('jobs of the library', () => {
  const now = Date.now();
  const videos = [
    { id: 'running', status: status() },
    { id: 'done', status: status({ status: 'done', stage: 'complete' }) },
    { id: 'failed', status: status({ status: 'error', stage: 'failed', last_update_unix_ms: now - 60_000 }) },
    { id: 'long ago', status: status({ status: 'error', stage: 'failed', last_update_unix_ms: now - 90_000_000 }) },
  ] as Video[];

  function opened(change: () => Promise<void>) {
    const load = vi.fn(() => Promise.resolve({ videos, next_cursor: null }));
    const api = { videos: load, cancel: vi.fn(change), retranscode: vi.fn(change) };
    return { library: new Library(api as unknown as Api), api, load };
  }

  it('are those under way and those that failed lately', async () => {
    const { library } = opened(() => Promise.resolve());
    await library.refresh();
    expect(library.jobs.map(({ id }) => id)).toEqual(['running', 'failed']);
  });

  it.each(['nothing_to_cancel', 'already_queued'])('that changed meanwhile (%s) are shown as they are', async (code) => {
    const { library, load } = opened(() => Promise.reject(new ApiError(code, 409, '')));
    await (code === 'already_queued' ? library.retry('running') : library.cancel('running'));
    expect(load).toHaveBeenCalledOnce();
  });

  it('report what went wrong otherwise', async () => {
    const { library, load } = opened(() => Promise.reject(new ApiError('store_unavailable', 503, '')));
    await expect(library.cancel('running')).rejects.toMatchObject({ code: 'store_unavailable' });
    await expect(library.retry('running')).rejects.toMatchObject({ code: 'store_unavailable' });
    expect(load).not.toHaveBeenCalled();
  });
});
