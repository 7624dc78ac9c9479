import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { eventsIn } from '../src/api/event-stream';
import { Following, type Pushed } from '../src/api/following';
import type { Status } from '../src/api/types';
import { StatusPoller } from '../src/watch/poller.svelte';
import { status } from './status';

class Screen extends EventTarget {
  hidden = false;

  turn(hidden: boolean) {
    this.hidden = hidden;
    this.dispatchEvent(new Event('visibilitychange'));
  }
}

function followed() {
  const screen = new Screen();
  const told: string[] = [];
  const opened: { atMs: number; heard: (pushed: Pushed) => void; lost: () => void; closed: boolean }[] = [];
  const begun = Date.now();
  const following = new Following(
    (heard, lost) => {
      const connection = { atMs: Date.now() - begun, heard, lost, closed: false };
      opened.push(connection);
      return () => void (connection.closed = true);
    },
    (pushed) => told.push(pushed.type),
    screen as unknown as Document,
  );
  return { screen, told, opened, following, stop: following.start(), last: () => opened.at(-1)! };
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.spyOn(Math, 'random').mockReturnValue(0);
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

describe('following', () => {
  it('is live while something is heard, and connects again after silence', async () => {
    const { following, told, opened, last } = followed();
    expect(following.live).toBe(false); // a proxy may hold everything back
    last().heard({ type: 'ping' });
    expect(following.live).toBe(true);
    await vi.advanceTimersByTimeAsync(39_000);
    last().heard({ type: 'ping' });
    await vi.advanceTimersByTimeAsync(39_000);
    expect(following.live).toBe(true);
    await vi.advanceTimersByTimeAsync(2_000);
    expect([following.live, told, opened[0]!.closed]).toEqual([false, ['ping', 'ping', 'lost'], true]);
    await vi.advanceTimersByTimeAsync(2_000);
    expect(opened).toHaveLength(2);
  });

  it('waits longer after each failure, up to a minute', async () => {
    const { last } = followed();
    const waits = [];
    for (let failure = 0; failure < 7; failure += 1) {
      const { atMs } = last();
      last().lost();
      await vi.advanceTimersToNextTimerAsync();
      waits.push(last().atMs - atMs);
    }
    expect(waits).toEqual([2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
  });

  it('is not connected while nobody sees the page', async () => {
    const { screen, opened, last, stop } = followed();
    screen.turn(true);
    expect(last().closed).toBe(true);
    await vi.advanceTimersByTimeAsync(120_000);
    expect(opened).toHaveLength(1);
    screen.turn(false);
    expect(opened).toHaveLength(2);
    stop();
    expect(last().closed).toBe(true);
    await vi.advanceTimersByTimeAsync(120_000);
    expect(opened).toHaveLength(2);
  });

  it('ends for good when the server says so', async () => {
    const { following, told, opened, last } = followed();
    last().heard({ type: 'end' });
    await vi.advanceTimersByTimeAsync(120_000);
    expect([following.live, told, opened.length]).toEqual([false, ['end'], 1]);
  });
});

describe('the status poller', () => {
  it('takes what is pushed instead of asking', async () => {
    let live = true;
    const asked = vi.fn(() => Promise.resolve(status({ playable: true })));
    const poller = new StatusPoller(async (pushed?: Status) => pushed ?? (await asked()), () => live);
    poller.start();
    await vi.advanceTimersByTimeAsync(10_000);
    poller.look(status({ progress: 0.5 }));
    await vi.advanceTimersByTimeAsync(40_000);
    expect([poller.status?.progress, asked.mock.calls.length]).toEqual([0.5, 1]);

    live = false;
    poller.look();
    await vi.advanceTimersByTimeAsync(10_000);
    expect(asked.mock.calls.length).toBeGreaterThan(4);
  });

  it('shows what came last, whichever answer is later', async () => {
    let answer: (status: Status) => void = () => {};
    const asked = () => new Promise<Status>((resolve) => (answer = resolve));
    const poller = new StatusPoller(async (pushed?: Status) => pushed ?? (await asked()));
    poller.start();
    poller.look(status({ progress: 0.5 }));
    await vi.advanceTimersByTimeAsync(0);
    answer(status({ progress: 0.1 }));
    await vi.advanceTimersByTimeAsync(0);
    expect(poller.status?.progress).toBe(0.5);
  });
});

describe('a stream of events', () => {
  it.each([1, 2, 7, 1000])('is read however it arrives: %i bytes at a time', async (size) => {
    const bytes = new TextEncoder().encode(': hello\r\n\r\nevent: video\r\ndata: {"title":"Ö: x"}\r\n\r\nevent: ping\r\ndata: {}\r\n\r\nevent: cut');
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        for (let at = 0; at < bytes.length; at += size) controller.enqueue(bytes.slice(at, at + size));
        controller.close();
      },
    });
    const events = [];
    for await (const event of eventsIn(body)) events.push(event);
    expect(events.slice(1)).toEqual([
      { type: 'video', data: '{"title":"Ö: x"}' },
      { type: 'ping', data: '{}' },
    ]);
  });
});
