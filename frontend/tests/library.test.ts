import { describe, expect, it } from 'vitest';

import type { Api } from '../src/lib/api/client';
import type { Video, VideoPage } from '../src/lib/api/types';
import { Library } from '../src/lib/library.svelte';

/** An API whose answers come when the test says so. */
class SlowApi {
  readonly asked: { resolve(page: VideoPage): void; reject(error: unknown): void }[] = [];

  videos(): Promise<VideoPage> {
    return new Promise((resolve, reject) => this.asked.push({ resolve, reject }));
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
  it('loads again although a load is under way, and shows the answer to the last', async () => {
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

  it('drops what arrives after it was told to forget', async () => {
    const [library, api] = opened();
    const loading = library.refresh();
    library.forget();
    api.asked[0]?.resolve(page('private'));
    await loading;

    expect(library.videos).toEqual([]);
    expect(library.loaded).toBe(false);
  });

  it('does not take the failure of an earlier load for that of the last', async () => {
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
});
