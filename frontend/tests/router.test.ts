import { expect, it } from 'vitest';

import { routeOf } from '../src/router.svelte';
import { tokenFromHash } from '../src/session/session.svelte';

it.each([
  ['/', { page: 'home' }],
  ['/watch/abc', { page: 'watch', id: 'abc' }],
  ['/watch/abc/', { page: 'watch', id: 'abc' }],
  ['/watch/a%20b', { page: 'watch', id: 'a b' }],
  ['/watch/', { page: 'not-found' }],
  ['/watch/a/b', { page: 'not-found' }],
  ['/watch/%E0%A4%A', { page: 'not-found' }],
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
