import { describe, expect, it } from 'vitest';

import type { Api } from '../src/api/client';
import { ApiError } from '../src/api/errors';
import type { AccessCode, NewAccessCode } from '../src/api/types';
import { Links, watchLink } from '../src/share/links.svelte';

const ROOT = 'https://vod.example/below/';

describe('the link to a video', () => {
  it.each([
    [{}, 'https://vod.example/below/watch/v'],
    [{ seconds: 83.9 }, 'https://vod.example/below/watch/v?t=83'],
    [{ code: 'summer party' }, 'https://vod.example/below/watch/v?access_code=summer+party'],
    [{ code: 'vc_1', seconds: 2 }, 'https://vod.example/below/watch/v?access_code=vc_1&t=2'],
  ])('with %o is %s', (given, expected) => {
    expect(watchLink('v', ROOT, given)).toBe(expected);
  });
});

describe('private links', () => {
  const link = (id: string) => ({ id }) as AccessCode;

  it('are made as wished', async () => {
    let asked: NewAccessCode | undefined;
    const makeAccessCode = async (wishes: NewAccessCode) => {
      asked = wishes;
      return { ...link('new'), code: 'vc_1' };
    };
    const links = new Links({ accessCodes: async () => [link('old')], makeAccessCode } as unknown as Api, 'v');
    await links.load();

    expect(await links.make({ description: 'Family', days: null, passphrase: '' })).toBe('vc_1');
    expect(asked).toEqual({ media_items: [{ media_slug: 'v' }], description: 'Family', expires_at: null, passphrase: null });
    expect(links.items?.map(({ id }) => id)).toEqual(['new', 'old']);

    await links.make({ description: '', days: 7, passphrase: 'open sesame' });
    expect(asked?.passphrase).toBe('open sesame');
    expect(Math.round((Date.parse(asked?.expires_at ?? '') - Date.now()) / 86_400_000)).toBe(7);
  });

  it('leave the list when they are withdrawn, also elsewhere, and stay when that fails', async () => {
    let failure: ApiError | null = new ApiError('store_unavailable', 503, 'Away.');
    const withdrawAccessCode = async () => {
      if (failure !== null) throw failure;
    };
    const accessCodes = async () => [link('a'), link('b')];
    const links = new Links({ accessCodes, withdrawAccessCode } as unknown as Api, 'v');
    await links.load();

    await links.withdraw(link('a'));
    expect(links.items).toHaveLength(2);
    expect(links.problem).toBe(failure);

    failure = new ApiError('access_code_not_found', 404, 'None.');
    await links.withdraw(link('a'));
    failure = null;
    await links.withdraw(link('b'));
    expect(links.items).toEqual([]);
    expect(links.problem).toBeNull();
  });
});
