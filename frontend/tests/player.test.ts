import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { ApiError, canTryAgain } from '../src/api/errors';
import type { Playback } from '../src/api/types';
import { onLoadError, onPlayError } from '../src/player/failures';
import { Reloads } from '../src/player/reloads';

const GRANT = { hls: '/play/g/hls', dash: '/play/g/dash' } as Playback;
const NO_NETWORK = new ApiError('network', 0, 'no response');
const RESTARTING = new ApiError('unexpected_answer', 502, 'HTTP 502');
const NOT_READY = new ApiError('not_ready', 409, 'Not yet.');
const BROKEN = new Error('playback failed');

describe('a failed playback', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  /** A reloader whose renewals get these answers in order, then the last one forever. */
  function reloader(...answers: (Playback | Error)[]) {
    const network = new EventTarget();
    const seen = { renewals: 0, loaded: [] as Playback[], givenUp: [] as unknown[] };
    const reloads = new Reloads({
      renew: async () => {
        const answer = answers[Math.min(seen.renewals, answers.length - 1)]!;
        seen.renewals += 1;
        if (answer instanceof Error) throw answer;
        return answer;
      },
      load: async (playback) => void seen.loaded.push(playback),
      positionSeconds: () => 7,
      onGiveUp: (error) => void seen.givenUp.push(error),
      network,
    });
    return { reloads, seen, goOnline: () => network.dispatchEvent(new Event('online')) };
  }

  it.each([
    ['the network is down for a moment', NO_NETWORK],
    ['the server restarts', RESTARTING],
  ])('is reloaded when %s', async (_, failure) => {
    const { reloads, seen } = reloader(failure, failure, failure, GRANT);
    reloads.failed(BROKEN);
    await vi.advanceTimersByTimeAsync(7_500);
    expect(seen).toEqual({ renewals: 4, loaded: [GRANT], givenUp: [] });
  });

  it('is left to the viewer after too long without a network', async () => {
    const { reloads, seen } = reloader(NO_NETWORK);
    reloads.failed(BROKEN);
    await vi.advanceTimersByTimeAsync(600_000);
    expect(seen).toEqual({ renewals: 8, loaded: [], givenUp: [NO_NETWORK] });
  });

  it('waits without limit, and slowly, for a restarted encoding', async () => {
    const { reloads, seen } = reloader(...Array.from({ length: 100 }, () => NOT_READY), GRANT);
    reloads.failed(BROKEN);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(seen.renewals).toBeLessThan(10);
    await vi.advanceTimersByTimeAsync(950_000);
    expect(seen).toMatchObject({ loaded: [GRANT], givenUp: [] });
  });

  it('is left to the viewer at once when the grant is rejected', async () => {
    const refused = new ApiError('unauthorized', 401, 'Sign in.');
    const { reloads, seen, goOnline } = reloader(refused);
    reloads.failed(BROKEN);
    await vi.advanceTimersByTimeAsync(600_000);
    goOnline();
    await vi.advanceTimersByTimeAsync(600_000);
    expect(seen).toEqual({ renewals: 1, loaded: [], givenUp: [refused] });
  });

  it('is reloaded at once when the network is back', async () => {
    const { reloads, seen, goOnline } = reloader(NO_NETWORK, NO_NETWORK, NO_NETWORK, NO_NETWORK, GRANT);
    reloads.failed(BROKEN);
    await vi.advanceTimersByTimeAsync(7_600);
    goOnline();
    await vi.advanceTimersByTimeAsync(0);
    expect(seen.loaded).toEqual([GRANT]);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(seen.renewals).toBe(5);
  });

  it('is reloaded when the network is back, even after giving up', async () => {
    const { reloads, seen, goOnline } = reloader(...Array.from({ length: 8 }, () => NO_NETWORK), GRANT);
    reloads.failed(BROKEN);
    await vi.advanceTimersByTimeAsync(600_000);
    expect(seen.givenUp).toHaveLength(1);
    goOnline();
    await vi.advanceTimersByTimeAsync(0);
    expect(seen.loaded).toEqual([GRANT]);
  });

  it('leaves a working playback alone when the network comes back', async () => {
    const { seen, goOnline } = reloader(GRANT);
    goOnline();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(seen.renewals).toBe(0);
  });

  it('is not reloaded after the viewer has switched the format', async () => {
    const { reloads, seen, goOnline } = reloader(GRANT);
    reloads.failed(BROKEN);
    reloads.superseded();
    goOnline();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(seen.renewals).toBe(0);
  });

  it('is left alone after the page is closed', async () => {
    const { reloads, seen, goOnline } = reloader(NO_NETWORK);
    reloads.failed(BROKEN);
    reloads.stop();
    goOnline();
    await reloads.now();
    await vi.advanceTimersByTimeAsync(600_000);
    expect(seen).toEqual({ renewals: 0, loaded: [], givenUp: [] });
  });
});

describe('a player error', () => {
  const shakaError = (severity: number, code: number, data: unknown[] = []) => ({ severity, category: 1, code, data });
  const [recoverable, critical] = [1, 2];

  it.each([
    ['an interrupted load', shakaError(critical, 7000), 'none', 'none'],
    ['an aborted operation', shakaError(critical, 7001), 'none', 'none'],
    ['a critical error', shakaError(critical, 3016), 'reload', 'reload'],
    ['an expired grant', shakaError(recoverable, 1001, ['/play/g/hls', 403]), 'reload', 'reload'],
    ['a recoverable error', shakaError(recoverable, 1002), 'none', 'report'],
    ['an error that is not from Shaka', new TypeError('undefined'), 'none', 'report'],
  ])('%s is handled during playback and after a load', (_, error, playing, loading) => {
    expect([onPlayError(error), onLoadError(error)]).toEqual([playing, loading]);
  });
});

const http = (status: number) => ({ code: 1001, severity: 1, data: ['https://vod.example/play/g/r1/h/1.m4s', status] });

it.each([404, 410])('a run that is gone is left for the one that plays now (%i)', (status) => {
  expect([onPlayError(http(status)), onLoadError(http(status))]).toEqual(['reload', 'reload']);
});

it('offers another try only where it can help', () => {
  const error = (code: string, status: number) => canTryAgain(new ApiError(code, status, ''));
  expect([error('network', 0), error('store_unavailable', 503), error('not_ready', 409), error('storage_full', 507)]).toEqual(
    Array(4).fill(true),
  );
  expect([error('video_not_found', 404), error('unplayable', 0), error('source_gone', 409), error('unsupported_type', 415)]).toEqual(
    Array(4).fill(false),
  );
});
