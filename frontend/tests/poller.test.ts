import { afterEach, beforeEach, expect, it, vi } from 'vitest';

import { ApiError } from '../src/api/errors';
import type { Status } from '../src/api/types';
import { StatusPoller } from '../src/watch/poller.svelte';
import { status } from './status';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** Gives these answers in order, then the last one forever, and records when it was polled. */
function source(...answers: (Status | Error)[]) {
  const polledAtMs: number[] = [];
  const begun = Date.now();
  const load = async () => {
    polledAtMs.push(Date.now() - begun);
    const answer = answers[Math.min(polledAtMs.length, answers.length) - 1]!;
    if (answer instanceof Error) throw answer;
    return answer;
  };
  return { load, polledAtMs };
}

it('polls every second while the status changes', async () => {
  const { load, polledAtMs } = source(...[0.1, 0.2, 0.3, 0.4].map((progress) => status({ progress, playable: true })));
  new StatusPoller(load).start();
  await vi.advanceTimersByTimeAsync(3_100);
  expect(polledAtMs).toEqual([0, 1000, 2000, 3000]);
});

it('polls eagerly until the video can be played, but not for long', async () => {
  const { load, polledAtMs } = source(status({ progress: 0 }), status({ progress: 0.1 }), status({ playable: true }));
  new StatusPoller(load).start();
  await vi.advanceTimersByTimeAsync(2_500);
  expect(polledAtMs).toEqual([0, 150, 300, 1300]);

  const waiting = source(status());
  new StatusPoller(waiting.load).start();
  await vi.advanceTimersByTimeAsync(20_000);
  expect(waiting.polledAtMs.slice(-4)).toEqual([15_000, 16_000, 17_500, 19_500]);
});

it('slows down to two seconds while nothing changes', async () => {
  const { load, polledAtMs } = source(status({ playable: true }));
  new StatusPoller(load).start();
  await vi.advanceTimersByTimeAsync(8_600);
  expect(polledAtMs).toEqual([0, 1000, 2500, 4500, 6500, 8500]);
});

it.each(['done', 'error'] as const)('stops at %s', async (word) => {
  const { load, polledAtMs } = source(status(), status({ status: word, stage: 'complete' }));
  const poller = new StatusPoller(load);
  poller.start();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(polledAtMs).toHaveLength(2);
  expect(poller.status?.status).toBe(word);
});

it('keeps the last status and backs off while the server is down, then recovers', async () => {
  const gone = new ApiError('network', 0, 'gone');
  const { load, polledAtMs } = source(
    status({ progress: 0.5, playable: true }), gone, gone, gone, gone, status({ progress: 0.6 }),
  );
  const poller = new StatusPoller(load);
  poller.start();
  await vi.advanceTimersByTimeAsync(1_500);
  expect(poller.status?.progress).toBe(0.5);
  expect(poller.error).toBe(gone);
  await vi.advanceTimersByTimeAsync(28_600);
  expect(polledAtMs).toEqual([0, 1000, 3000, 7000, 15000, 30000]);
  expect(poller.status?.progress).toBe(0.6);
  expect(poller.error).toBeNull();
});

it('stops for a deleted video', async () => {
  const { load, polledAtMs } = source(new ApiError('video_not_found', 404, 'no'));
  new StatusPoller(load).start();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(polledAtMs).toHaveLength(1);
});

it('ignores a pending response after its undo', async () => {
  const { load, polledAtMs } = source(status());
  const poller = new StatusPoller(load);
  const stop = poller.start();
  stop();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(polledAtMs).toHaveLength(1);
  expect(poller.status).toBeNull();
});

it('runs one loop only after a restart during a pending request', async () => {
  const { load, polledAtMs } = source(status({ playable: true }));
  const poller = new StatusPoller(load);
  poller.start()();
  const stop = poller.start();
  await vi.advanceTimersByTimeAsync(2_600);
  expect(polledAtMs).toEqual([0, 0, 1000, 2500]);
  stop();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(polledAtMs).toHaveLength(4);
});

it('keeps polling when the undo of an earlier start is called late', async () => {
  const { load, polledAtMs } = source(status({ playable: true }));
  const poller = new StatusPoller(load);
  const stopFirst = poller.start();
  poller.start();
  await vi.advanceTimersByTimeAsync(500);
  stopFirst();
  await vi.advanceTimersByTimeAsync(2_100);
  expect(polledAtMs).toEqual([0, 0, 1000, 2500]);
});
