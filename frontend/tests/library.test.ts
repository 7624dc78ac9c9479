import { describe, expect, it } from 'vitest';

import type { Api } from '../src/api/client';
import type { Video, VideoPage } from '../src/api/types';
import { Library } from '../src/library/library.svelte';

/** An API whose responses the test releases. */
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
});
