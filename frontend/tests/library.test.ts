import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import type { Api } from '../src/api/client';
import type { Video, VideoPage } from '../src/api/types';
import type { Connect, Pushed } from '../src/api/following';
import { Library } from '../src/library/library.svelte';
import { status } from './status';

/** An API whose responses the test releases. */
class SlowApi {
  readonly asked: {
    cursor: string | null;
    limit: number;
    resolve(page: VideoPage): void;
    reject(error: unknown): void;
  }[] = [];

  videos(cursor: string | null, limit: number): Promise<VideoPage> {
    return new Promise((resolve, reject) => this.asked.push({ cursor, limit, resolve, reject }));
  }
}

function page(...ids: string[]): VideoPage {
  return { videos: ids.map((id) => ({ id }) as Video), next_cursor: null };
}

function opened(): [Library, SlowApi] {
  const api = new SlowApi();
  return [new Library(api as unknown as Api), api];
}

describe('the library', () => {
  it('can refresh during a load, and shows the response to the last one', async () => {
    const [library, api] = opened();
    const first = library.refresh();
    const second = library.refresh();
    api.asked[1]?.resolve(page('new'));
    await second;
    api.asked[0]?.resolve(page('old'));
    await first;

    expect(library.videos.map((video) => video.id)).toEqual(['new']);
    expect(library.loading).toBe(false);
  });

  it('ignores a response that arrives after forget', async () => {
    const [library, api] = opened();
    const loading = library.refresh();
    library.forget();
    api.asked[0]?.resolve(page('private'));
    await loading;

    expect(library.videos).toEqual([]);
    expect(library.loaded).toBe(false);
  });

  it('ignores the failure of an earlier load', async () => {
    const [library, api] = opened();
    const first = library.refresh();
    const second = library.refresh();
    api.asked[0]?.reject(new Error('signed out'));
    await first;
    expect(library.error).toBeNull();
    api.asked[1]?.resolve(page('new'));
    await second;

    expect(library.error).toBeNull();
    expect(library.videos.map((video) => video.id)).toEqual(['new']);
  });

  it('loads as many videos as were shown, in as few requests as the API allows', async () => {
    const [library, api] = opened();
    const loading = library.refresh(250);
    const many = (from: number, count: number) => page(...Array.from({ length: count }, (_, index) => `${from + index}`));
    api.asked[0]?.resolve({ ...many(0, 200), next_cursor: 'c' });
    await Promise.resolve();
    api.asked[1]?.resolve({ ...many(200, 50), next_cursor: 'd' });
    await loading;
    expect(api.asked.map(({ cursor, limit }) => [cursor, limit])).toEqual([[null, 200], ['c', 50]]);
    expect(library.videos).toHaveLength(250);

    void library.refresh();
    expect(api.asked[2]?.limit).toBe(200);
  });
});

describe('the library that is followed', () => {
  class Screen extends EventTarget {
    hidden = false;

    turn(hidden: boolean) {
      this.hidden = hidden;
      this.dispatchEvent(new Event('visibilitychange'));
    }
  }

  const encoding = { id: 'a', status: status({ status: 'processing' }) } as Video;
  const done = { id: 'a', status: status({ status: 'done' }) } as Video;

  function followed(video: Video) {
    const screen = new Screen();
    let hear: (pushed: Pushed) => void = () => {};
    const connect: Connect = (heard) => {
      hear = heard;
      return () => {};
    };
    const page = { videos: [video], next_cursor: null };
    const api = { videos: vi.fn(() => Promise.resolve(page)), followAll: () => connect };
    const library = new Library(api as unknown as Api);
    const stop = library.follow(screen as unknown as Document);
    return { screen, library, api, stop, page, hear: (pushed: Pushed) => hear(pushed), looks: () => api.videos.mock.calls.length };
  }

  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it.each([
    ['often while a video is encoded', encoding, 15],
    ['seldom otherwise', done, 5],
  ])('is refreshed %s', async (_, video, expected) => {
    const { library, stop, looks } = followed(video);
    await library.refresh();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(Math.abs(looks() - expected)).toBeLessThan(3);
    stop();
    const before = looks();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(looks()).toBe(before);
  });

  it('shows what the server tells, and asks seldom', async () => {
    const { library, stop, page, hear, looks } = followed(encoding);
    const news = { type: 'video', id: 'a', title: 'A', visibility: 'private' } as const;
    page.videos = [{ ...encoding, title: 'A', visibility: 'private' }];
    await library.refresh();
    hear({ type: 'ping' });
    await vi.advanceTimersByTimeAsync(12_000);
    const before = looks();
    for (let percent = 0; percent < 50; percent += 10) {
      hear({ ...news, status: status({ progress: percent / 100 }) });
      await vi.advanceTimersByTimeAsync(8_000);
    }
    expect([library.videos[0]?.status.progress, looks()]).toEqual([0.4, before]);

    page.videos = [done];
    hear({ ...news, status: status({ status: 'done' }) });
    hear({ type: 'gone', id: 'b' });
    await vi.advanceTimersByTimeAsync(400);
    expect(looks()).toBe(before + 1);

    hear({ ...news, id: 'new', status: status() });
    await vi.advanceTimersByTimeAsync(400);
    hear({ ...news, id: 'new', status: status({ progress: 0.5 }) }); // a conversion: the list has it not
    await vi.advanceTimersByTimeAsync(400);
    expect(looks()).toBe(before + 2);
    stop();
  });

  it('is refreshed soon after a failure', async () => {
    const { library, api, stop } = followed(done);
    await library.refresh();
    api.videos.mockRejectedValueOnce(new Error('no network'));
    await vi.advanceTimersByTimeAsync(12_000);
    expect(library.error).not.toBeNull();
    await vi.advanceTimersByTimeAsync(4_000);
    expect(library.error).toBeNull();
    stop();
  });

  it('is not refreshed while nobody sees it, and at once when somebody does', async () => {
    const { screen, stop, looks } = followed(done);
    screen.turn(true);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(looks()).toBe(0);
    screen.turn(false);
    await vi.advanceTimersByTimeAsync(0);
    expect(looks()).toBe(1);
    stop();
  });
});
