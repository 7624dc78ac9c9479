import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { Api } from '../src/api/client';
import { messageFor } from '../src/api/errors';
import { CaptionsEditor } from '../src/watch/captions.svelte';
import { languageChoices, languageName, languageFromFilename } from '../src/watch/languages';
import { Watch } from '../src/watch/watch.svelte';
import { status } from './status';

const ENGLISH = { language: 'en', label: 'English', forced: false, source: 'upload' as const };
const SRT = new File(['1\n00:00:01,000 --> 00:00:02,000\nHello\n'], 'film.en.srt');

describe('captions', () => {
  let server: Server;
  let answers: Record<string, { status: number; body?: unknown }>;
  let asked: { request: string; type: string | undefined; body: string }[];
  let editor: CaptionsEditor;
  let changes: number;
  let api: Api;

  beforeEach(async () => {
    asked = [];
    changes = 0;
    answers = { 'GET /captions': { status: 200, body: { captions: [ENGLISH] } } };
    server = createServer(async (request, response) => {
      const asking = `${request.method} ${request.url!.replace('/api/videos/v', '')}`;
      let body = '';
      for await (const chunk of request) body += String(chunk);
      asked.push({ request: asking, type: request.headers['content-type'], body });
      const answer = answers[asking] ?? { status: 404, body: { error: 'None.', code: 'not_found' } };
      response.writeHead(answer.status, { 'content-type': 'application/json' });
      response.end(answer.body === undefined ? undefined : JSON.stringify(answer.body));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    api = new Api(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    editor = new CaptionsEditor(api, 'v', () => void (changes += 1));
  });

  afterEach(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  it('are listed', async () => {
    expect(editor.items).toBeNull();
    await editor.load();
    expect(editor.items).toEqual([ENGLISH]);
    expect(changes).toBe(0);
  });

  it('are uploaded with language and label, then listed again', async () => {
    answers['POST /captions/pt-BR?label=Para+todos'] = { status: 201, body: ENGLISH };
    expect(await editor.upload(SRT, ' pt-BR ', ' Para todos ')).toBe(true);
    expect(asked[0]).toMatchObject({ type: 'application/octet-stream', body: await SRT.text() });
    expect(editor.items).toEqual([ENGLISH]);
    expect([editor.busy, editor.problem, changes]).toEqual([false, null, 1]);
  });

  it('are named by the server if no label is given', async () => {
    answers['POST /captions/en'] = { status: 201, body: ENGLISH };
    expect(await editor.upload(SRT, 'en', ' ')).toBe(true);
  });

  it('are rejected with the reason that the server gives', async () => {
    answers['POST /captions/en'] = { status: 400, body: { error: 'No UTF-8.', code: 'invalid_captions' } };
    expect(await editor.upload(SRT, 'en', '')).toBe(false);
    expect(messageFor(editor.problem)).toBe('No UTF-8.');
    expect([editor.busy, changes]).toEqual([false, 0]);
  });

  it('are not sent if they are too large', async () => {
    const film = new File([new Uint8Array(2 * 1024 * 1024 + 1)], 'film.mp4');
    expect(await editor.upload(film, 'en', '')).toBe(false);
    expect(messageFor(editor.problem)).toContain('2 MB');
    expect(asked).toEqual([]);
  });

  it.each([
    ['deleted', { status: 204 }],
    ['considered deleted when they are already gone', { status: 404, body: { error: 'Gone.', code: 'captions_not_found' } }],
  ])('are %s', async (_, answer) => {
    answers['DELETE /captions/en'] = answer;
    answers['GET /captions'] = { status: 200, body: { captions: [] } };
    expect(await editor.remove(ENGLISH)).toBe(true);
    expect(editor.items).toEqual([]);
    expect(changes).toBe(1);
  });

  it('stay listed when the server cannot delete them', async () => {
    await editor.load();
    answers['DELETE /captions/en'] = { status: 503, body: { error: 'Away.', code: 'store_unavailable' } };
    expect(await editor.remove(ENGLISH)).toBe(false);
    expect(editor.items).toEqual([ENGLISH]);
    expect(editor.problem).toMatchObject({ code: 'store_unavailable' });
  });

  it.each([
    ['reload the player of a finished video', 'complete', 1],
    ['reload the player of a first look', 'first_look', 1],
    ['do not reload the player of a growing video', 'growing', 0],
  ])('%s', async (_, presentation, revision) => {
    const now = status({ playable: true, status: presentation === 'complete' ? 'done' : 'processing' });
    answers['GET '] = { status: 200, body: { id: 'v', title: 'T', status: now } };
    answers['GET /status'] = { status: 200, body: now };
    answers['GET /playback'] = { status: 200, body: { presentation, hls: '/play/g/hls', dash: '/d', webm: null, poster: null, storyboard: null, captions: [] } };
    const watch = new Watch(api, 'v');
    const stop = watch.start();
    await expect.poll(() => watch.playback).not.toBeNull();

    await watch.captionsChanged();
    expect(watch.revision).toBe(revision);
    stop();
  });
});

describe('a language', () => {
  it('is listed by name, after the viewer\'s own', () => {
    const [first, second, third, ...others] = languageChoices(['pt-BR', 'de-AT']);
    expect([first, second, third].map((one) => one?.tag)).toEqual(['pt-BR', 'pt', 'de']);
    expect(first?.name).toBe('Brazilian Portuguese');
    const names = others.map((one) => one.name);
    expect(names).toEqual([...names].sort((one, other) => one.localeCompare(other, 'en')));
  });

  it.each([
    ['de', 'German'],
    ['zh-Hant', 'Traditional Chinese'],
    ['', ''],
    ['no tag', 'no tag'],
  ])('%s is named %s', (tag, name) => {
    expect(languageName(tag)).toBe(name);
  });

  it.each([
    ['film.en.srt', 'en'],
    ['film.pt-br.vtt', 'pt-BR'],
    ['film.srt', null],
    ['film', null],
    ['film.1080p.srt', null],
  ])('of %s is %s', (name, tag) => {
    expect(languageFromFilename(name)).toBe(tag);
  });
});
