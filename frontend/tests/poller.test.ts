import { afterEach, beforeEach, expect, it, vi } from 'vitest';

import { ApiError } from '../src/lib/api/errors';
import type { Status } from '../src/lib/api/types';
import { StatusPoller } from '../src/lib/poller.svelte';
import { status } from './status';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** Answers in order, the last one for ever; remembers when it was asked. */
function source(...answers: (Status | Error)[]) {
  const askedAtMs: number[] = [];
  const begun = Date.now();
  const load = async () => {
    askedAtMs.push(Date.now() - begun);
    const answer = answers[Math.min(askedAtMs.length, answers.length) - 1]!;
    if (answer instanceof Error) throw answer;
    return answer;
  };
  return { load, askedAtMs };
}

it('asks every second while something moves', async () => {
  const { load, askedAtMs } = source(...[0.1, 0.2, 0.3, 0.4].map((progress) => status({ progress })));
  new StatusPoller(load).start();
  await vi.advanceTimersByTimeAsync(3_100);
  expect(askedAtMs).toEqual([0, 1000, 2000, 3000]);
});

it('slows down to two seconds while nothing moves', async () => {
  const { load, askedAtMs } = source(status());
  new StatusPoller(load).start();
  await vi.advanceTimersByTimeAsync(8_600);
  expect(askedAtMs).toEqual([0, 1000, 2500, 4500, 6500, 8500]);
});

it.each(['done', 'error'] as const)('stops at %s', async (word) => {
  const { load, askedAtMs } = source(status(), status({ status: word, stage: 'complete' }));
  const poller = new StatusPoller(load);
  poller.start();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(askedAtMs).toHaveLength(2);
  expect(poller.finished).toBe(true);
});

it('keeps the last status and backs off while the server is away, and recovers', async () => {
  const gone = new ApiError('network', 0, 'gone');
  const { load, askedAtMs } = source(status({ progress: 0.5 }), gone, gone, gone, gone, status({ progress: 0.6 }));
  const poller = new StatusPoller(load);
  poller.start();
  await vi.advanceTimersByTimeAsync(1_500);
  expect(poller.status?.progress).toBe(0.5);
  expect(poller.error).toBe(gone);
  await vi.advanceTimersByTimeAsync(28_600);
  expect(askedAtMs).toEqual([0, 1000, 3000, 7000, 15000, 30000]);
  expect(poller.status?.progress).toBe(0.6);
  expect(poller.error).toBeNull();
});

it('gives up on a deleted video', async () => {
  const { load, askedAtMs } = source(new ApiError('video_not_found', 404, 'no'));
  new StatusPoller(load).start();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(askedAtMs).toHaveLength(1);
});

it('is silent after its undo, an answer under way included', async () => {
  const { load, askedAtMs } = source(status());
  const poller = new StatusPoller(load);
  const stop = poller.start();
  stop();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(askedAtMs).toHaveLength(1);
  expect(poller.status).toBeNull();
});

it('asks in one loop alone after a stop and a start around an answer under way', async () => {
  const { load, askedAtMs } = source(status());
  const poller = new StatusPoller(load);
  poller.start()();
  const stop = poller.start();
  await vi.advanceTimersByTimeAsync(2_600);
  expect(askedAtMs).toEqual([0, 0, 1000, 2500]);
  stop();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(askedAtMs).toHaveLength(4);
});

it('goes on after the undo of an earlier start is called late', async () => {
  const { load, askedAtMs } = source(status());
  const poller = new StatusPoller(load);
  const stopFirst = poller.start();
  poller.start();
  await vi.advanceTimersByTimeAsync(500);
  stopFirst();
  await vi.advanceTimersByTimeAsync(2_100);
  expect(askedAtMs).toEqual([0, 0, 1000, 2500]);
});
