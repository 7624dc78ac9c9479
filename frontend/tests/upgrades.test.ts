import { beforeEach, describe, expect, it } from 'vitest';

import type { Playback } from '../src/api/types';
import { Upgrades } from '../src/player/upgrades';

const LOOK = { presentation: 'first_look' } as Playback;
const COMPLETE = { presentation: 'complete' } as Playback;

class Video extends EventTarget {
  paused = false;
  ended = false;

  emit = (event: string) => this.dispatchEvent(new Event(event));
}

describe('a higher quality', () => {
  let video: Video;
  let dragging: boolean;
  let offered: boolean;
  let loaded: Playback[];
  let upgrades: Upgrades;

  beforeEach(() => {
    video = new Video();
    dragging = offered = false;
    loaded = [];
    upgrades = new Upgrades({
      video,
      isDragging: () => dragging,
      load: async (playback) => {
        upgrades.loading(playback);
        loaded.push(playback);
      },
      onBetter: (isReady) => (offered = isReady),
    });
    upgrades.loading(LOOK);
  });

  it('is offered and not loaded while the first look plays', async () => {
    upgrades.update(LOOK);
    expect(offered).toBe(false);
    upgrades.update(COMPLETE);
    expect([offered, loaded]).toEqual([true, []]);

    await upgrades.now();
    expect([offered, loaded]).toEqual([false, [COMPLETE]]);
  });

  it.each(['pause', 'seeking'])('is loaded once at the next %s', (event) => {
    video.emit(event);
    expect(loaded).toEqual([]);
    upgrades.update(COMPLETE);
    video.emit(event);
    video.emit(event);
    expect(loaded).toEqual([COMPLETE]);
  });

  it('is loaded at once in a paused video, but not at the end, which it would move', () => {
    video.paused = video.ended = true;
    upgrades.update(COMPLETE);
    expect(loaded).toEqual([]);
    video.ended = false;
    video.emit('seeking'); // the viewer plays it again
    expect(loaded).toEqual([COMPLETE]);
  });

  it('waits until the viewer lets go of the seek bar', () => {
    upgrades.update(COMPLETE);
    dragging = true;
    video.emit('pause');
    video.emit('seeking');
    expect(loaded).toEqual([]);
    dragging = false;
    video.emit('seeking');
    expect(loaded).toEqual([COMPLETE]);
  });

  it.each<Playback['presentation']>(['growing', 'complete'])('is not offered to what plays all of them (%s)', (presentation) => {
    upgrades.loading({ ...LOOK, presentation });
    upgrades.update(COMPLETE);
    video.emit('pause');
    expect([offered, loaded]).toEqual([false, []]);
  });

  it('replaces the download of a reduced video, but the first look does not', () => {
    upgrades.loading({ ...LOOK, presentation: 'reduced' });
    upgrades.update(LOOK);
    video.emit('pause');
    expect([offered, loaded]).toEqual([false, []]);
    upgrades.update(COMPLETE);
    video.emit('seeking');
    expect(loaded).toEqual([COMPLETE]);
  });

  it('is left alone after the page is closed', () => {
    upgrades.update(COMPLETE);
    upgrades.stop();
    video.emit('pause');
    expect(loaded).toEqual([]);
  });
});
