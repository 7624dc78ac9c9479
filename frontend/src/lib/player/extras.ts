/**
 * What is added to a loaded video beside its manifest: captions, chapters and previews while seeking.
 *
 * Captions are in the manifests too. But from there Shaka (5.2) holds them back until the next video segment comes,
 * which never does when all is buffered already: in a short video, or while it is paused.
 *
 * A video that is still being encoded has none of these, and Shaka adds nothing to a playlist that grows. Whoever
 * began to watch then gets them as soon as both have ended.
 */

import type shaka from 'shaka-player/dist/shaka-player.ui-es2021.js';

import type { Playback } from '../api/types';
import { chaptersAsWebvtt } from './chapters';

// Shaka's code cannot be imported outside a browser.
const MEDIA_SOURCE: shaka.Player.LoadMode.MEDIA_SOURCE = 2;
const UNDETERMINED = 'und';

type Target = Pick<
  shaka.Player,
  | 'addChaptersTrack'
  | 'addTextTrackAsync'
  | 'addThumbnailsTrack'
  | 'getAudioTracks'
  | 'getLoadMode'
  | 'getTextTracks'
  | 'isDynamic'
  | 'selectTextTrack'
>;

export class Extras {
  readonly #player: Target;
  readonly #base: string;
  #playback: Playback | null = null;
  #state: 'loading' | 'loaded' | 'added' = 'loading';
  /** The label of the captions that the viewer saw last; null: none; undefined: there were none to choose from. */
  #shown: string | null | undefined;

  /** Shaka resolves what it adds against nothing: `base` is the page's address. */
  constructor(player: Target, base: string) {
    this.#player = player;
    this.#base = base;
  }

  /** A load begins, which takes away whatever was added. */
  loading(playback: Playback): void {
    const tracks = this.#player.getTextTracks();
    if (tracks.length > 0) this.#shown = tracks.find((track) => track.active)?.label ?? null;
    this.#state = 'loading';
    this.#playback = playback;
  }

  loaded(): void {
    this.#state = 'loaded';
    this.settle();
  }

  /** More is there than when it was loaded, perhaps. */
  offer(playback: Playback): void {
    this.#playback = playback;
    this.settle();
  }

  /** Add them, once, if they are all there and can be added. */
  settle(): void {
    const playback = this.#playback;
    if (this.#state !== 'loaded' || playback === null || this.#player.isDynamic()) return;
    // The WebM is made last.
    if (playback.webm === null) return;
    // Where the browser plays HLS by itself it has found the captions in the playlist.
    if (this.#player.getLoadMode() !== MEDIA_SOURCE) return;
    this.#state = 'added';
    // Without them it plays as well; and another load, which ends this one, adds its own.
    for (const adding of [this.#addCaptions(playback), this.#addChapters(playback), this.#addPreviews(playback)]) {
      adding.catch(() => undefined);
    }
  }

  async #addCaptions({ captions }: Playback): Promise<void> {
    const tracks: shaka.extern.TextTrack[] = [];
    for (const { url, language, label, forced } of captions) {
      tracks.push(
        await this.#player.addTextTrackAsync(
          this.#absolute(url), language, 'subtitles', 'text/vtt', undefined, label, forced,
        ),
      );
    }
    const wanted =
      this.#shown === undefined ? this.#forced(tracks) : tracks.find((track) => track.label === this.#shown);
    if (wanted !== undefined) this.#player.selectTextTrack(wanted);
  }

  /**
   * Return the captions that belong to the sound: they translate what is foreign in it. When the viewer chooses
   * another sound, Shaka changes them by itself.
   */
  #forced(tracks: shaka.extern.TextTrack[]): shaka.extern.TextTrack | undefined {
    const sound = this.#player.getAudioTracks().find((track) => track.active)?.language ?? UNDETERMINED;
    return tracks.find(
      (track) => track.forced && (sound === UNDETERMINED || primary(track.language) === primary(sound)),
    );
  }

  async #addChapters({ chapters }: Playback): Promise<void> {
    if (chapters.length === 0) return;
    const uri = `data:text/vtt;charset=utf-8,${encodeURIComponent(chaptersAsWebvtt(chapters))}`;
    await this.#player.addChaptersTrack(uri, UNDETERMINED, 'text/vtt');
  }

  async #addPreviews({ storyboard }: Playback): Promise<void> {
    if (storyboard !== null) await this.#player.addThumbnailsTrack(this.#absolute(storyboard), 'text/vtt');
  }

  #absolute(path: string): string {
    return new URL(path, this.#base).href;
  }
}

/** The language of a tag without its region or script. */
function primary(tag: string): string {
  return tag.toLowerCase().split('-')[0]!;
}
