import { afterEach, expect, it, vi } from 'vitest';

import { Api } from '../src/lib/api/client';

const server = new Api('http://vod.example');
const fetched = vi.fn<typeof fetch>(() => Promise.resolve(new Response('{}')));

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

it('a request without a file is given up in time, and is then an answer that did not come', async () => {
  const timeout = vi.spyOn(AbortSignal, 'timeout').mockReturnValue(AbortSignal.abort());
  await expect(server.signedIn()).rejects.toMatchObject({ code: 'network' });
  expect(timeout).toHaveBeenCalledWith(120_000);
});

it('a file takes as long as it takes', async () => {
  vi.stubGlobal('fetch', fetched);
  await server.uploadCaptions('1', 'en', '', new Blob(['WEBVTT']));
  expect(fetched.mock.lastCall![1]!.signal).toBeUndefined();
});

it('an answer that breaks off is an ApiError as well', async () => {
  const broken = new ReadableStream({ pull: (controller) => controller.error(new TypeError('reset')) });
  vi.stubGlobal('fetch', () => Promise.resolve(new Response(broken, { status: 503 })));
  await expect(server.signedIn()).rejects.toMatchObject({ code: 'unexpected_answer', status: 503 });
});
