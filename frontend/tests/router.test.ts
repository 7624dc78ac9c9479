import { describe, expect, it, vi } from 'vitest';

import { addressOf, pathBelow } from '../src/api/address';
import { Api } from '../src/api/client';
import { routeOf } from '../src/router.svelte';
import { tokenFromHash } from '../src/session/session.svelte';

it.each([
  ['/', { page: 'home' }],
  ['/watch/abc', { page: 'watch', id: 'abc' }],
  ['/watch/abc/', { page: 'watch', id: 'abc' }],
  ['/watch/a%20b', { page: 'watch', id: 'a b' }],
  ['/people', { page: 'people' }],
  ['/devices', { page: 'devices' }],
  ['/login', { page: 'login' }],
  ['/logout', { page: 'logout' }],
  ['/watch/', { page: 'not-found' }],
  ['/watch/a/b', { page: 'not-found' }],
  ['/watch/%E0%A4%A', { page: 'not-found' }],
  [`/upload/${'aB-_9'.repeat(4)}22/`, { page: 'guest', link: `${'aB-_9'.repeat(4)}22` }],
  ['/upload/multipart', { page: 'not-found' }],
  ['/elsewhere', { page: 'not-found' }],
])('%s opens its page', (path, route) => {
  expect(routeOf(path)).toEqual(route);
});

it.each([
  ['#token=secret-0123', 'secret-0123'],
  ['#a=b&token=x%2By', 'x+y'],
  ['#token=', null],
  ['#other', null],
  ['', null],
])('the fragment %s holds the token %s', (hash, token) => {
  expect(tokenFromHash(hash)).toBe(token);
});

describe('below a path', () => {
  const root = 'https://example.org/vod/';

  it.each([
    ['/api/videos', '/vod/api/videos'],
    ['/vod/api/videos', '/vod/api/videos'],
    ['watch/a%20b?t=5', '/vod/watch/a%20b?t=5'],
    ['https://example.org/vod/play/g/x.mpd', '/vod/play/g/x.mpd'],
  ])('%s is found at %s', (path, found) => {
    expect(addressOf(path, root)).toBe(`https://example.org${found}`);
  });

  it('addresses are the same by every name of the server', () => {
    const below = ['https://example.org/vod/api/uploads/1', '/api/uploads/1'].map((one) => pathBelow(one, root));
    expect([...below, pathBelow('http://10.0.0.2/api/uploads/1', 'http://10.0.0.2/')]).toEqual(Array(3).fill('/api/uploads/1'));
  });

  it('pages are found', () => {
    expect(routeOf(pathBelow('/vod/', root))).toEqual({ page: 'home' });
    expect(routeOf(pathBelow('/vod/watch/abc', root))).toEqual({ page: 'watch', id: 'abc' });
    expect(routeOf(pathBelow('/elsewhere', root))).toEqual({ page: 'not-found' });
  });

  it('the API is called and its answers are resolved', async () => {
    const answer = { hls: '/play/g/h', dash: '/vod/play/g/d', webm: null, poster: null, storyboard: null, captions: [{ url: '/play/g/c' }] };
    const fetched = vi.fn((_: string) => Promise.resolve(new Response(JSON.stringify(answer))));
    vi.stubGlobal('fetch', fetched);
    const playback = await new Api(root).playback('a');
    vi.unstubAllGlobals();
    expect(fetched.mock.lastCall![0]).toBe(`${root}api/videos/a/playback`);
    expect([playback.hls, playback.dash, playback.captions[0]?.url]).toEqual(
      ['h', 'd', 'c'].map((name) => `${root}play/g/${name}`),
    );
  });
});
