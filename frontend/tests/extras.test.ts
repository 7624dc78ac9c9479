import type shaka from 'shaka-player/dist/shaka-player.ui-es2021.js';
import { beforeEach, describe, expect, it } from 'vitest';

import type { Playback } from '../src/api/types';
import { chaptersAsWebvtt } from '../src/player/chapters';
import { Extras } from '../src/player/extras';

const GERMAN = { url: '/play/g/de.vtt', language: 'de', label: 'Deutsch', forced: false, source: 'upload' as const };
const FORCED = { url: '/play/g/1.vtt', language: 'en-GB', label: 'Signs', forced: true, source: 'video' as const };
const FRENCH_FORCED = { ...FORCED, url: '/play/g/2.vtt', language: 'fr', label: 'Panneaux' };
const CHAPTERS = [
  { start_seconds: 0, end_seconds: 61.5, title: 'Salt & <pepper>' },
  { start_seconds: 61.5, end_seconds: 3723.0625, title: '' },
];
const ENCODING: Playback = {
  title: 'Film', presentation: 'growing', hls: '/play/g/hls', dash: '/play/g/dash', webm: null, mp4: null, poster: null, storyboard: null,
  captions: [], chapters: [], expires_at: '2027-01-01T00:00:00Z',
};
const READY: Playback = { ...ENCODING, presentation: 'complete', webm: '/play/g/webm', storyboard: '/play/g/board.vtt', captions: [GERMAN] };

/** Records what is added to Shaka Player. */
class Player {
  growing = false;
  loadMode = 2;
  audio = 'en';
  texts: shaka.extern.TextTrack[] = [];
  chapters: string[] = [];
  previews: string[] = [];

  isDynamic = () => this.growing;
  getLoadMode = () => this.loadMode;
  getTextTracks = () => this.texts;
  getAudioTracks = () => [{ active: true, language: this.audio }] as shaka.extern.AudioTrack[];
  async addTextTrackAsync(
    uri: string, language: string, _kind: string, _type?: string, _codec?: string, label?: string, forced?: boolean,
  ) {
    const track = { originalTextId: uri, language, label, forced, active: false } as shaka.extern.TextTrack;
    this.texts = [...this.texts, track];
    return track;
  }
  selectTextTrack = (track?: shaka.extern.TextTrack | null) => {
    for (const one of this.texts) one.active = one === track;
  };
  async addChaptersTrack(uri: string) {
    this.chapters.push(uri);
    return {} as shaka.extern.ChapterTrack;
  }
  async addThumbnailsTrack(uri: string) {
    this.previews.push(uri);
    return {} as shaka.extern.ImageTrack;
  }

  get labels() {
    return this.texts.map((track) => track.label);
  }
  get shown() {
    return this.texts.find((track) => track.active)?.label ?? null;
  }
}

describe('captions, chapters and previews', () => {
  let player: Player;
  let extras: Extras;

  beforeEach(() => {
    player = new Player();
    extras = new Extras(player);
  });

  async function load(playback: Playback) {
    extras.loading(playback);
    player.texts = [];
    extras.loaded();
    await settled();
  }

  /** Resolves once everything has settled: nothing here waits for more than promises. */
  const settled = () => new Promise((resolve) => setTimeout(resolve));

  it('are added to a finished video', async () => {
    await load({ ...READY, chapters: CHAPTERS });
    expect(player.labels).toEqual(['Deutsch']);
    expect(player.texts[0]).toMatchObject({ originalTextId: '/play/g/de.vtt', active: false });
    expect(player.previews).toEqual(['/play/g/board.vtt']);
    expect(decodeURIComponent(player.chapters[0]!.replace('data:text/vtt;charset=utf-8,', ''))).toBe(
      chaptersAsWebvtt(CHAPTERS),
    );
  });

  it.each([
    ['the playlists end first', ['ends', 'is ready']],
    ['the video is ready first', ['is ready', 'ends']],
  ])('are added during playback once encoding is done, when %s', async (_, order) => {
    player.growing = true;
    await load(ENCODING);
    for (const step of order) {
      expect(player.labels).toEqual([]);
      if (step === 'ends') {
        player.growing = false;
        extras.addWhenReady();
      } else extras.update(READY);
      await settled();
    }
    expect(player.labels).toEqual(['Deutsch']);
    expect(player.previews).toHaveLength(1);
  });

  it('are added only once', async () => {
    await load(READY);
    extras.update({ ...READY });
    extras.addWhenReady();
    await settled();
    expect(player.labels).toEqual(['Deutsch']);
    expect(player.previews).toHaveLength(1);
  });

  it('are added to the first look one after another, each once', async () => {
    const look: Playback = { ...ENCODING, presentation: 'first_look', chapters: CHAPTERS };
    await load(look);
    expect([player.labels, player.chapters.length, player.previews.length]).toEqual([[], 1, 0]);
    for (const more of [{ captions: [FORCED] }, { captions: [FORCED, GERMAN] }, { storyboard: '/play/h/board.vtt' }]) {
      extras.update(Object.assign(look, more));
      await settled();
    }
    expect([player.labels, player.shown]).toEqual([['Signs', 'Deutsch'], 'Signs']);
    expect([player.chapters.length, player.previews.length]).toEqual([1, 1]);
  });

  it('are left to a browser that plays HLS natively', async () => {
    player.loadMode = 3;
    await load(READY);
    expect([player.labels, player.previews]).toEqual([[], []]);
  });

  it('keep the viewer\'s choice across a reload', async () => {
    await load({ ...READY, captions: [GERMAN, FORCED] });
    expect(player.shown).toBe('Signs');
    player.selectTextTrack(player.texts[0]);
    await load({ ...READY, captions: [GERMAN, FORCED] });
    expect(player.shown).toBe('Deutsch');

    player.selectTextTrack(null);
    await load({ ...READY, captions: [GERMAN, FORCED] });
    expect(player.labels).toHaveLength(2);
    expect(player.shown).toBeNull();
  });

  it.each([
    ['those in the audio language', 'fr', 'Panneaux'],
    ['those in another regional variant', 'en-US', 'Signs'],
    ['the first if the audio language is unknown', 'und', 'Signs'],
    ['none if there are none in the audio language', 'ja', null],
  ])('that are forced are shown by default: %s', async (_, audio, shown) => {
    player.audio = audio;
    await load({ ...READY, captions: [GERMAN, FORCED, FRENCH_FORCED] });
    expect(player.shown).toBe(shown);
  });
});

describe('chapters as WebVTT', () => {
  it('have one cue each, with a title', () => {
    expect(chaptersAsWebvtt(CHAPTERS)).toBe(
      'WEBVTT\n\n00:00:00.000 --> 00:01:01.500\nSalt &amp; &lt;pepper&gt;\n\n' +
        '00:01:01.500 --> 01:02:03.063\nChapter 2\n\n',
    );
  });
});
