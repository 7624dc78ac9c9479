import { afterEach, expect, it, vi } from 'vitest';

import { Api } from '../src/api/client';

const server = new Api('http://vod.example');
const fetched = vi.fn<typeof fetch>(() => Promise.resolve(new Response('{}')));

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

it('a request without a file times out as a network failure', async () => {
  const timeout = vi.spyOn(AbortSignal, 'timeout').mockReturnValue(AbortSignal.abort());
  await expect(server.signedIn()).rejects.toMatchObject({ code: 'network' });
  expect(timeout).toHaveBeenCalledWith(120_000);
});

it('a request with a file has no timeout', async () => {
  vi.stubGlobal('fetch', fetched);
  await server.uploadCaptions('1', 'en', '', new Blob(['WEBVTT']));
  expect(fetched.mock.lastCall![1]!.signal).toBeUndefined();
});

it('a response that breaks off becomes an ApiError', async () => {
  const broken = new ReadableStream({ pull: (controller) => controller.error(new TypeError('reset')) });
  vi.stubGlobal('fetch', () => Promise.resolve(new Response(broken, { status: 503 })));
  await expect(server.signedIn()).rejects.toMatchObject({ code: 'unexpected_answer', status: 503 });
});
