import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { Api } from '../src/api/client';
import { preferredCodecs } from '../src/player/codecs';
import { BackOff } from '../src/player/reloads';
import { Watch } from '../src/watch/watch.svelte';
import { status } from './status';

describe('the codec', () => {
  const capabilities = (supported: boolean, smooth: boolean) =>
    ({ decodingInfo: async () => ({ supported, smooth, powerEfficient: false }) }) as unknown as MediaCapabilities;

  it.each([
    ['AV1 where it decodes smoothly', capabilities(true, true), 'av01'],
    ['H.264 where AV1 would stutter', capabilities(true, false), 'avc1'],
    ['H.264 where AV1 is not supported', capabilities(false, false), 'avc1'],
    ['H.264 where the browser cannot tell', undefined, 'avc1'],
  ])('is %s', async (_, given, first) => {
    expect((await preferredCodecs(given))[0]).toBe(first);
  });
});

describe('the back-off', () => {
  it('waits longer each time, and gives up if the position does not change', () => {
    const backOff = new BackOff();
    const waits = Array.from({ length: 9 }, () => backOff.next(7));
    expect(waits).toEqual([500, 1000, 2000, 4000, 8000, 10000, 10000, 10000, null]);
  });

  it('starts over once playback has advanced', () => {
    const backOff = new BackOff();
    for (let failure = 0; failure < 8; failure += 1) backOff.next(7);
    expect(backOff.next(12)).toBe(500);
  });
});

describe('the watch page state', () => {
  let server: Server;
  let answers: Record<string, { status: number; body: unknown } | 'no answer'>;
  let asked: string[];
  /** Whether the server pushes, and what it does so with. */
  let pushes = false;
  let push: ((type: string, data: object) => void) | undefined;
  let passphrases: (string | string[] | undefined)[];
  let api: Api;
  let stop = () => {};

  beforeEach(async () => {
    vi.useFakeTimers({ toFake: ['setTimeout'] });
    answers = {};
    asked = [];
    pushes = false;
    push = undefined;
    passphrases = [];
    server = createServer((request, response) => {
      const path = request.url!.replace('/api/videos/v', '') || '/';
      asked.push(path);
      if (path.includes('access_code')) passphrases.push(request.headers['access-passphrase']);
      if (path === '/events' && pushes) {
        response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
        push = (type, data) => response.write(`event: ${type}\r\ndata: ${JSON.stringify(data)}\r\n\r\n`);
        return;
      }
      const answer = answers[path] ?? { status: 404, body: { error: 'None.', code: 'video_not_found' } };
      if (answer === 'no answer') {
        request.socket.destroy();
        return;
      }
      response.writeHead(answer.status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(answer.body));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    api = new Api(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  });

  afterEach(async () => {
    vi.useRealTimers();
    stop();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  const soon = (check: () => unknown) => vi.waitFor(check, { interval: 1, timeout: 4_000 });

  /** Check until it holds, while each time a second of the page's clock passes. */
  const later = (check: () => void) =>
    soon(async () => {
      await vi.advanceTimersByTimeAsync(1_000);
      check();
    });

  const playback = (webm: string | null, storyboard: string | null = null) => ({
    status: 200,
    body: {
      title: 'Film', presentation: webm === null ? 'first_look' : 'complete',
      hls: '/play/g/hls', dash: '/d', webm, poster: null, storyboard, captions: [], chapters: [],
    },
  });
  const notReady = { status: 409, body: { error: 'Not yet.', code: 'not_ready' } };
  const refused = { status: 401, body: { error: 'Sign in.', code: 'unauthorized' } };

  it('becomes playable during encoding, and gets its download at the end', async () => {
    const encoding = status({ playable: false });
    answers = { '/': { status: 200, body: { id: 'v', title: 'T', status: encoding } }, '/status': { status: 200, body: encoding } };
    const watch = new Watch(api, 'v');
    stop = watch.start();
    await soon(() => expect(asked).toContain('/status'));
    expect(watch.playback).toBeNull();
    expect(asked).not.toContain('/playback');

    answers['/status'] = { status: 200, body: status({ playable: true, progress: 0.2 }) };
    answers['/playback'] = playback(null);
    await later(() => expect(watch.playback).toMatchObject({ webm: null }));

    answers['/status'] = { status: 200, body: status({ playable: true, progress: 1, status: 'done', stage: 'complete' }) };
    answers['/playback'] = playback('/play/g/download.webm');
    const source = { container: 'mov' };
    answers['/'] = { status: 200, body: { id: 'v', title: 'T', status: status({ status: 'done' }), source } };
    await later(() => expect(watch.status?.status).toBe('done'));
    expect(watch.playback?.webm).toMatch(/\/play\/g\/download.webm$/);
    expect(watch.video?.source).toEqual(source);
  });

  it('takes what is pushed without asking, and hears of a deletion', async () => {
    pushes = true;
    const encoding = status({ playable: false });
    answers = { '/': { status: 200, body: { title: 'T', status: encoding } }, '/status': { status: 200, body: encoding } };
    const watch = new Watch(api, 'v');
    stop = watch.start();
    await soon(() => expect(push).toBeDefined());
    const news = { id: 'v', title: 'T', visibility: 'private' };
    push!('video', { ...news, status: status({ progress: 0.1 }) });
    await soon(() => expect(watch.status?.progress).toBe(0.1));
    answers['/playback'] = playback(null);
    push!('video', { ...news, title: 'U', status: status({ progress: 0.2, playable: true }) });
    await soon(() => expect(watch.playback).not.toBeNull());
    await soon(() => expect(watch.status?.progress).toBe(0.2));
    expect([watch.video?.title, asked.filter((path) => path === '/status')]).toEqual(['U', ['/status']]);

    answers = {};
    push!('end', { error: 'No.', code: 'video_not_found' });
    await soon(() => expect(watch.lost).toBe(true));
    expect(watch.playback).toBeNull();
  });

  it('tells a guest who waits that the video plays, and later that it is gone', async () => {
    pushes = true;
    answers = { '/': refused, '/playback': notReady };
    const watch = new Watch(api, 'v');
    stop = watch.start();
    await soon(() => expect(push).toBeDefined());
    expect(watch.waiting).toBe(true);
    answers['/playback'] = playback(null);
    push!('video', { id: 'v', title: 'T', visibility: null, status: status({ playable: true }) });
    await soon(() => expect(watch.playback).not.toBeNull());

    answers = { '/playback': refused };
    push!('end', { error: 'No.', code: 'unauthorized' });
    await soon(() => expect(watch.lost).toBe(true));
    expect(asked).not.toContain('/status');
  });

  it('finds what is made while the first look is watched', async () => {
    const looked = status({ playable: true });
    answers = {
      '/': { status: 200, body: { id: 'v', title: 'T', status: looked } },
      '/status': { status: 200, body: looked },
      '/playback': playback(null),
    };
    const watch = new Watch(api, 'v');
    stop = watch.start();
    await later(() => expect(watch.playback?.presentation).toBe('first_look'));

    answers['/playback'] = playback(null, '/play/g/board.vtt');
    await later(() => expect(watch.playback?.storyboard).toMatch(/board.vtt$/));
  });

  it('follows a reduced video until it is made again', async () => {
    const reduced = status({ status: 'done', stage: 'complete', playable: true, reduced: true });
    const offered = playback('/play/g/download.webm');
    answers = {
      '/': { status: 200, body: { id: 'v', title: 'T', status: reduced } },
      '/status': { status: 200, body: reduced },
      '/playback': { ...offered, body: { ...offered.body, presentation: 'reduced' } },
    };
    const watch = new Watch(api, 'v');
    stop = watch.start();
    await later(() => expect(watch.playback?.presentation).toBe('reduced'));

    answers['/status'] = { status: 200, body: status({ playable: false, reduced: true }) };
    await later(() => expect(watch.status?.playable).toBe(false));
    expect(watch.playback?.presentation).toBe('reduced');

    answers['/status'] = { status: 200, body: status({ playable: true, reduced: true }) };
    answers['/playback'] = playback(null);
    await later(() => expect(watch.playback?.presentation).toBe('first_look'));

    answers['/status'] = { status: 200, body: status({ playable: true, status: 'done', stage: 'complete' }) };
    answers['/playback'] = offered;
    await later(() => expect(watch.playback?.presentation).toBe('complete'));
  });

  it('plays a public video for a guest', async () => {
    answers = { '/': refused, '/playback': playback(null) };
    let askedToSignIn = 0;
    api.onUnauthorized(() => (askedToSignIn += 1));
    const watch = new Watch(api, 'v');
    stop = watch.start();
    await soon(() => expect(watch.playback).not.toBeNull());
    expect(watch.guest).toBe(true);
    expect(askedToSignIn).toBe(0);
  });

  describe('opened by a private link', () => {
    const OPEN = '/playback?access_code=vc_1';
    const rejected = { status: 403, body: { error: 'No.', code: 'access_code_rejected' } };
    const asks = { status: 403, body: { error: 'Which?', code: 'passphrase_required' } };
    const wrong = { status: 403, body: { error: 'Wrong.', code: 'passphrase_wrong' } };
    const tooMany = { status: 429, body: { error: 'Wait.', code: 'too_many_attempts' } };

    beforeEach(() => {
      const kept = new Map<string, string>();
      const storage = { getItem: (key: string) => kept.get(key) ?? null, setItem: kept.set.bind(kept) };
      vi.stubGlobal('sessionStorage', storage);
    });

    afterEach(() => vi.unstubAllGlobals());

    it('plays for a guest, and says so when the link is withdrawn', async () => {
      answers = { '/': refused, [OPEN]: playback(null) };
      const watch = new Watch(api, 'v', undefined, 'vc_1');
      stop = watch.start();
      await soon(() => expect(watch.playback).not.toBeNull());

      answers[OPEN] = rejected;
      await later(() => expect(watch.problem).toMatchObject({ code: 'access_code_rejected' }));
      expect(watch.playback).toBeNull();
    });

    it('plays for who is signed in, but may not see the video otherwise', async () => {
      answers = { [OPEN]: playback(null) };
      const watch = new Watch(api, 'v', undefined, 'vc_1');
      stop = watch.start(true);
      await soon(() => expect(watch.playback).not.toBeNull());
    });

    it('asks for the passphrase until it is right, and once', async () => {
      answers = { '/': refused, [OPEN]: asks };
      const watch = new Watch(api, 'v', undefined, 'vc_1');
      stop = watch.start();
      await soon(() => expect(watch.locked).toBe(true));

      for (const answer of [wrong, tooMany]) {
        answers[OPEN] = answer;
        await watch.unlock('öffne');
        expect(watch.locked).toBe(true);
        expect(watch.problem).toMatchObject({ code: answer.body.code });
      }
      expect(passphrases).toEqual([undefined, '%C3%B6ffne', '%C3%B6ffne']);
      answers[OPEN] = playback(null);
      await watch.unlock('öffne dich');
      expect(watch.locked).toBe(false);
      expect(watch.problem).toBeNull();
      expect(watch.playback).not.toBeNull();
      stop();

      const reloaded = new Watch(api, 'v', undefined, 'vc_1');
      stop = reloaded.start();
      await soon(() => expect(reloaded.playback).not.toBeNull());
      expect(passphrases.at(-1)).toBe('%C3%B6ffne%20dich');
    });
  });

  it('polls for a guest who watches during encoding', async () => {
    answers = { '/': refused, '/playback': playback(null) };
    const watch = new Watch(api, 'v');
    stop = watch.start();
    await soon(() => expect(watch.playback).not.toBeNull());

    for (const answer of [notReady, 'no answer' as const, playback('/play/g/download.webm')]) {
      const before = asked.length;
      answers['/playback'] = answer;
      await later(() => expect(asked.length).toBeGreaterThan(before));
    }
    await soon(() => expect(watch.playback?.webm).toMatch(/download.webm$/));
    expect([watch.trouble, watch.problem]).toEqual([null, null]);
  });

  it('waits while a public video is prepared for a guest', async () => {
    answers = { '/': refused, '/playback': notReady };
    const watch = new Watch(api, 'v');
    stop = watch.start();
    await soon(() => expect(watch.waiting).toBe(true));
    expect(watch.problem).toBeNull();
    answers['/playback'] = playback(null);
    await later(() => expect(watch.playback).not.toBeNull());
    expect(watch.waiting).toBe(false);
  });

  it('asks a guest to sign in to a private video', async () => {
    answers = { '/': refused, '/playback': refused };
    let askedToSignIn = 0;
    api.onUnauthorized(() => (askedToSignIn += 1));
    const watch = new Watch(api, 'v');
    stop = watch.start();
    await soon(() => expect(watch.problem).toMatchObject({ code: 'unauthorized' }));
    expect(askedToSignIn).toBe(1);
  });

  it.each([
    ['is queued again', { status: 202, body: status({ status: 'queued', stage: 'queued' }) }],
    ['was already queued', { status: 409, body: { error: 'Queued.', code: 'already_queued' } }],
  ])('follows a failed video again once it %s', async (_, answer) => {
    const failed = status({ status: 'error', stage: 'failed', error: { code: 'attempt_failed', message: 'No.' } });
    answers = { '/': { status: 200, body: { id: 'v', title: 'T', status: failed } }, '/status': { status: 200, body: failed } };
    const watch = new Watch(api, 'v');
    stop = watch.start();
    await soon(() => expect(watch.status?.status).toBe('error'));
    await soon(() => expect(asked).toContain('/status'));

    answers['/transcodes'] = answer;
    answers['/status'] = { status: 200, body: status({ status: 'queued', stage: 'queued' }) };
    await watch.retranscode();

    await soon(() => expect(watch.status?.status).toBe('queued'));
    answers['/status'] = { status: 200, body: status({ progress: 0.5 }) };
    await later(() => expect(watch.status?.progress).toBe(0.5));
  });

  it('stays failed if the original is gone', async () => {
    const failed = status({ status: 'error', stage: 'failed', error: { code: 'attempt_failed', message: 'No.' } });
    answers = {
      '/': { status: 200, body: { id: 'v', title: 'T', status: failed } },
      '/status': { status: 200, body: failed },
      '/transcodes': { status: 409, body: { error: 'Gone.', code: 'source_gone' } },
    };
    const watch = new Watch(api, 'v');
    stop = watch.start();
    await soon(() => expect(asked).toContain('/status'));

    await expect(watch.retranscode()).rejects.toMatchObject({ code: 'source_gone' });
    expect(watch.status?.status).toBe('error');
  });

  it('reports a missing video', async () => {
    const watch = new Watch(api, 'v');
    stop = watch.start();
    await soon(() => expect(watch.problem).toMatchObject({ code: 'video_not_found' }));
  });

  it.each([
    ['the server fails', { status: 503, body: { error: 'Away.', code: 'store_unavailable' } }],
    ['there is no response', 'no answer' as const],
  ])('opens the video later if at first %s', async (_, failure) => {
    answers = { '/': failure };
    const watch = new Watch(api, 'v');
    stop = watch.start();
    await soon(() => expect(watch.trouble).not.toBeNull());
    expect(watch.problem).toBeNull();

    const encoding = status({ playable: false });
    answers = { '/': { status: 200, body: { id: 'v', title: 'T', status: encoding } }, '/status': { status: 200, body: encoding } };
    await later(() => expect(watch.video).not.toBeNull());
    expect(watch.trouble).toBeNull();
    await soon(() => expect(asked).toContain('/status'));
  });

  it('keeps retrying for a guest while the server fails', async () => {
    answers = { '/': refused, '/playback': 'no answer' };
    const watch = new Watch(api, 'v');
    stop = watch.start();
    await soon(() => expect(watch.trouble).toMatchObject({ code: 'network' }));
    answers['/playback'] = playback(null);
    await later(() => expect(watch.playback).not.toBeNull());
    expect([watch.trouble, watch.problem]).toEqual([null, null]);
  });

  describe('of a video that is being watched', () => {
    const done = status({ playable: true, status: 'done', stage: 'complete' });
    const answer = (title: string, visibility = 'private') => ({ status: 200, body: { id: 'v', title, visibility, status: done } });
    const gone = { status: 404, body: { error: 'None.', code: 'video_not_found' } };
    let watch: Watch;

    beforeEach(async () => {
      answers = { '/': answer('T'), '/status': { status: 200, body: done }, '/playback': playback('/w') };
      watch = new Watch(api, 'v');
      stop = watch.start(true);
      await soon(() => expect(watch.status?.status).toBe('done'));
      await soon(() => expect(watch.playback).not.toBeNull());
    });

    it('follows a new title', async () => {
      answers['/'] = answer('Renamed elsewhere');
      await later(() => expect(watch.video?.title).toBe('Renamed elsewhere'));
    });

    it('ends with its deletion', async () => {
      answers = { '/': gone, '/status': gone, '/playback': gone };
      await later(() => expect(watch.problem).toMatchObject({ code: 'video_not_found' }));
      expect([watch.video, watch.playback, watch.lost]).toEqual([null, null, true]);
    });

    it('ends when its grant cannot be renewed because it was deleted', async () => {
      answers = { '/playback': gone };
      await expect(watch.renew()).rejects.toMatchObject({ code: 'video_not_found' });
      expect([watch.playback, watch.lost]).toEqual([null, true]);
    });

    it.each([
      ['private', true],
      ['public', false],
    ])('drops what a guest may not see at once after a sign-out (%s)', async (visibility, stops) => {
      answers['/'] = answer('T', visibility);
      await later(() => expect(watch.video?.visibility).toBe(visibility));
      stop();
      stop = watch.start(false);
      expect([watch.video, watch.status, watch.playback === null]).toEqual([null, null, stops]);
    });

    it('is followed again once another page asks for a new encoding', async () => {
      const again = status({ status: 'queued', stage: 'queued', request: 'v.1' });
      answers['/'] = { status: 200, body: { id: 'v', title: 'T', status: again } };
      answers['/status'] = { status: 200, body: again };
      await later(() => expect(watch.status?.status).toBe('queued'));
    });
  });
});
