import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { Api } from '../src/lib/api/client';
import { sentence } from '../src/lib/api/errors';
import { CaptionsEditor } from '../src/lib/captions.svelte';
import { languageChoices, languageName, languageOfFile } from '../src/lib/languages';
import { Watch } from '../src/lib/watch.svelte';
import { status } from './status';

const ENGLISH = { language: 'en', label: 'English', forced: false, source: 'upload' as const };
const SRT = new File(['1\n00:00:01,000 --> 00:00:02,000\nHello\n'], 'film.en.srt');

describe('the captions of a video', () => {
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

  it('are uploaded with language and label, and listed anew', async () => {
    answers['POST /captions/pt-BR?label=Para+todos'] = { status: 201, body: ENGLISH };
    expect(await editor.upload(SRT, ' pt-BR ', ' Para todos ')).toBe(true);
    expect(asked[0]).toMatchObject({ type: 'application/octet-stream', body: await SRT.text() });
    expect(editor.items).toEqual([ENGLISH]);
    expect([editor.busy, editor.problem, changes]).toEqual([false, null, 1]);
  });

  it('are named by the server when nobody names them', async () => {
    answers['POST /captions/en'] = { status: 201, body: ENGLISH };
    expect(await editor.upload(SRT, 'en', ' ')).toBe(true);
  });

  it('are refused with the reason that the server gives', async () => {
    answers['POST /captions/en'] = { status: 400, body: { error: 'No UTF-8.', code: 'invalid_captions' } };
    expect(await editor.upload(SRT, 'en', '')).toBe(false);
    expect(sentence(editor.problem)).toBe('No UTF-8.');
    expect([editor.busy, changes]).toEqual([false, 0]);
  });

  it('are not even sent when they are too large', async () => {
    const film = new File([new Uint8Array(2 * 1024 * 1024 + 1)], 'film.mp4');
    expect(await editor.upload(film, 'en', '')).toBe(false);
    expect(sentence(editor.problem)).toContain('2 MiB');
    expect(asked).toEqual([]);
  });

  it.each([
    ['deleted', { status: 204 }],
    ['deleted when somebody was quicker', { status: 404, body: { error: 'Gone.', code: 'captions_not_found' } }],
  ])('are %s', async (_, answer) => {
    answers['DELETE /captions/en'] = answer;
    answers['GET /captions'] = { status: 200, body: { captions: [] } };
    expect(await editor.remove(ENGLISH)).toBe(true);
    expect(editor.items).toEqual([]);
    expect(changes).toBe(1);
  });

  it('stay when the server cannot delete them', async () => {
    await editor.load();
    answers['DELETE /captions/en'] = { status: 503, body: { error: 'Away.', code: 'store_unavailable' } };
    expect(await editor.remove(ENGLISH)).toBe(false);
    expect(editor.items).toEqual([ENGLISH]);
    expect(editor.problem).toMatchObject({ code: 'store_unavailable' });
  });

  it.each([
    ['reach the player of a finished video', 'done' as const, 1],
    ['leave the player of a growing video alone', 'processing' as const, 0],
  ])('%s', async (_, word, edition) => {
    const now = status({ playable: true, status: word });
    answers['GET '] = { status: 200, body: { title: 'T', status: now } };
    answers['GET /status'] = { status: 200, body: now };
    answers['GET /playback'] = { status: 200, body: { hls: '/play/g/hls', dash: '/d', webm: null } };
    const watch = new Watch(api, 'v');
    const stop = watch.start();
    await expect.poll(() => watch.playback).not.toBeNull();

    await watch.captionsChanged();
    expect(watch.edition).toBe(edition);
    stop();
  });
});

describe('a language', () => {
  it('is offered by name, the viewer\'s own first', () => {
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
  ])('%s is called %s', (tag, name) => {
    expect(languageName(tag)).toBe(name);
  });

  it.each([
    ['film.en.srt', 'en'],
    ['film.pt-br.vtt', 'pt-BR'],
    ['film.srt', null],
    ['film', null],
    ['film.1080p.srt', null],
  ])('of %s is %s', (name, tag) => {
    expect(languageOfFile(name)).toBe(tag);
  });
});
