/**
 * Adds captions, chapters and seek previews to a loaded video.
 *
 * Captions are in the manifests too, but Shaka (5.2) shows those only after the next video segment arrives. None arrives
 * when everything is buffered, as in a short or paused video.
 *
 * A video that is still encoding has none of these yet, and Shaka cannot add tracks to a growing playlist. They are added
 * once encoding has finished and the playlist has ended.
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
  #playback: Playback | null = null;
  #state: 'loading' | 'loaded' | 'added' = 'loading';
  /** The label of the captions shown last. null: captions were off. undefined: there were none to choose from. */
  #shown: string | null | undefined;

  constructor(player: Target) {
    this.#player = player;
  }

  /** A load begins, which removes everything that was added. */
  loading(playback: Playback): void {
    const tracks = this.#player.getTextTracks();
    if (tracks.length > 0) this.#shown = tracks.find((track) => track.active)?.label ?? null;
    this.#state = 'loading';
    this.#playback = playback;
  }

  loaded(): void {
    this.#state = 'loaded';
    this.addWhenReady();
  }

  /** Take a newer playback, which may have more to add. */
  update(playback: Playback): void {
    this.#playback = playback;
    this.addWhenReady();
  }

  /** Add everything once, if all of it exists and the playlist has ended. */
  addWhenReady(): void {
    const playback = this.#playback;
    if (this.#state !== 'loaded' || playback === null || this.#player.isDynamic()) return;
    // The WebM is made last, so everything else exists with it.
    if (playback.webm === null) return;
    // A browser that plays HLS natively takes the captions from the playlist.
    if (this.#player.getLoadMode() !== MEDIA_SOURCE) return;
    this.#state = 'added';
    // Playback works without these. A later load interrupts this and adds its own.
    for (const added of [this.#addCaptions(playback), this.#addChapters(playback), this.#addPreviews(playback)]) {
      added.catch(() => undefined);
    }
  }

  async #addCaptions({ captions }: Playback): Promise<void> {
    const tracks: shaka.extern.TextTrack[] = [];
    for (const { url, language, label, forced } of captions) {
      tracks.push(
        await this.#player.addTextTrackAsync(
          url, language, 'subtitles', 'text/vtt', undefined, label, forced,
        ),
      );
    }
    const wanted =
      this.#shown === undefined ? this.#forced(tracks) : tracks.find((track) => track.label === this.#shown);
    if (wanted !== undefined) this.#player.selectTextTrack(wanted);
  }

  /**
   * Return the forced captions for the audio track, which translate its foreign-language passages. Shaka switches them
   * when the viewer changes the audio track.
   */
  #forced(tracks: shaka.extern.TextTrack[]): shaka.extern.TextTrack | undefined {
    const audio = this.#player.getAudioTracks().find((track) => track.active)?.language ?? UNDETERMINED;
    return tracks.find(
      (track) => track.forced && (audio === UNDETERMINED || primary(track.language) === primary(audio)),
    );
  }

  async #addChapters({ chapters }: Playback): Promise<void> {
    if (chapters.length === 0) return;
    const uri = `data:text/vtt;charset=utf-8,${encodeURIComponent(chaptersAsWebvtt(chapters))}`;
    await this.#player.addChaptersTrack(uri, UNDETERMINED, 'text/vtt');
  }

  async #addPreviews({ storyboard }: Playback): Promise<void> {
    if (storyboard !== null) await this.#player.addThumbnailsTrack(storyboard, 'text/vtt');
  }
}

/** A tag's language, without its region or script. */
function primary(tag: string): string {
  return tag.toLowerCase().split('-')[0]!;
}
