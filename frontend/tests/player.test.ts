import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { ApiError } from '../src/lib/api/errors';
import type { Playback } from '../src/lib/api/types';
import { afterLoadError, afterPlayError } from '../src/lib/player/failures';
import { Reloads } from '../src/lib/player/reloads';

const GRANT = { hls: '/play/g/hls', dash: '/play/g/dash' } as Playback;
const NO_NETWORK = new ApiError('network', 0, 'no answer');
const RESTARTING = new ApiError('unexpected_answer', 502, 'HTTP 502');
const NOT_READY = new ApiError('not_ready', 409, 'Not yet.');
const BROKEN = new Error('the playback broke');

describe('a broken playback', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  /** A reloader whose grants come as answered, in order, the last answer for ever. */
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
    ['the network is gone for a moment', NO_NETWORK],
    ['the server restarts', RESTARTING],
  ])('is loaded again although %s', async (_, failure) => {
    const { reloads, seen } = reloader(failure, failure, failure, GRANT);
    reloads.failed(BROKEN);
    await vi.advanceTimersByTimeAsync(7_500);
    expect(seen).toEqual({ renewals: 4, loaded: [GRANT], givenUp: [] });
  });

  it('is left to the viewer once the network is gone for too long', async () => {
    const { reloads, seen } = reloader(NO_NETWORK);
    reloads.failed(BROKEN);
    await vi.advanceTimersByTimeAsync(600_000);
    expect(seen).toEqual({ renewals: 8, loaded: [], givenUp: [NO_NETWORK] });
  });

  it('waits slowly and without limit for the next attempt of the encoder', async () => {
    const { reloads, seen } = reloader(...Array.from({ length: 100 }, () => NOT_READY), GRANT);
    reloads.failed(BROKEN);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(seen.renewals).toBeLessThan(10);
    await vi.advanceTimersByTimeAsync(950_000);
    expect(seen).toMatchObject({ loaded: [GRANT], givenUp: [] });
  });

  it('is left to the viewer at once when the grant is refused', async () => {
    const refused = new ApiError('unauthorized', 401, 'Sign in.');
    const { reloads, seen, goOnline } = reloader(refused);
    reloads.failed(BROKEN);
    await vi.advanceTimersByTimeAsync(600_000);
    goOnline();
    await vi.advanceTimersByTimeAsync(600_000);
    expect(seen).toEqual({ renewals: 1, loaded: [], givenUp: [refused] });
  });

  it('is loaded at once when the network is back, while it waits', async () => {
    const { reloads, seen, goOnline } = reloader(NO_NETWORK, NO_NETWORK, NO_NETWORK, NO_NETWORK, GRANT);
    reloads.failed(BROKEN);
    await vi.advanceTimersByTimeAsync(7_600);
    goOnline();
    await vi.advanceTimersByTimeAsync(0);
    expect(seen.loaded).toEqual([GRANT]);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(seen.renewals).toBe(5);
  });

  it('is loaded when the network is back, even after it was given up', async () => {
    const { reloads, seen, goOnline } = reloader(...Array.from({ length: 8 }, () => NO_NETWORK), GRANT);
    reloads.failed(BROKEN);
    await vi.advanceTimersByTimeAsync(600_000);
    expect(seen.givenUp).toHaveLength(1);
    goOnline();
    await vi.advanceTimersByTimeAsync(0);
    expect(seen.loaded).toEqual([GRANT]);
  });

  it('does not disturb one that plays when the network comes and goes', async () => {
    const { seen, goOnline } = reloader(GRANT);
    goOnline();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(seen.renewals).toBe(0);
  });

  it('is not loaded a second time after the viewer has changed the format', async () => {
    const { reloads, seen, goOnline } = reloader(GRANT);
    reloads.failed(BROKEN);
    reloads.superseded();
    goOnline();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(seen.renewals).toBe(0);
  });

  it('is let alone after the page has gone', async () => {
    const { reloads, seen, goOnline } = reloader(NO_NETWORK);
    reloads.failed(BROKEN);
    reloads.stop();
    goOnline();
    await reloads.now();
    await vi.advanceTimersByTimeAsync(600_000);
    expect(seen).toEqual({ renewals: 0, loaded: [], givenUp: [] });
  });
});

describe('an error of the player', () => {
  const shakaError = (severity: number, code: number, data: unknown[] = []) => ({ severity, category: 1, code, data });
  const [recoverable, critical] = [1, 2];

  it.each([
    ['an interrupted load', shakaError(critical, 7000), 'none', 'none'],
    ['an aborted operation', shakaError(critical, 7001), 'none', 'none'],
    ['a critical error', shakaError(critical, 3016), 'reload', 'reload'],
    ['an expired grant', shakaError(recoverable, 1001, ['/play/g/hls', 403]), 'reload', 'reload'],
    ['a recoverable error', shakaError(recoverable, 1002), 'none', 'report'],
    ['an error that is not of Shaka', new TypeError('undefined'), 'none', 'report'],
  ])('%s has its consequence while playing and after a load', (_, error, playing, loading) => {
    expect([afterPlayError(error), afterLoadError(error)]).toEqual([playing, loading]);
  });
});
