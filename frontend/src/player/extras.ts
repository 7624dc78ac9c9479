/**
 * Adds captions, chapters and seek previews to a loaded video.
 *
 * Captions are in the manifests too, but Shaka (5.2) shows those only after the next video segment arrives. None arrives
 * when everything is buffered, as in a short or paused video.
 *
 * While a video is encoded, they appear one after another. Each is added once it exists, but none to a growing playlist:
 * Shaka cannot do that, so these wait until encoding has finished and the playlist has ended.
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
  #isLoaded = false;
  /** What was added to this load. */
  #added = new Set<string>();
  /** The label of the captions shown last. null: captions were off. undefined: there were none to choose from. */
  #shown: string | null | undefined;

  constructor(player: Target) {
    this.#player = player;
  }

  /** A load begins, which removes everything that was added. */
  loading(playback: Playback): void {
    const tracks = this.#player.getTextTracks();
    if (tracks.length > 0) this.#shown = tracks.find((track) => track.active)?.label ?? null;
    this.#isLoaded = false;
    this.#added = new Set();
    this.#playback = playback;
  }

  loaded(): void {
    this.#isLoaded = true;
    this.addWhenReady();
  }

  /** Take a newer playback, which may have more to add. */
  update(playback: Playback): void {
    this.#playback = playback;
    this.addWhenReady();
  }

  /** Add what exists and was not added yet, unless the playlist grows. */
  addWhenReady(): void {
    const playback = this.#playback;
    if (!this.#isLoaded || playback === null || playback.presentation === 'growing' || this.#player.isDynamic()) return;
    // A browser that plays HLS natively takes the captions from the playlist.
    if (this.#player.getLoadMode() !== MEDIA_SOURCE) return;
    // Playback works without these. A later load interrupts this and adds its own.
    for (const added of [this.#addCaptions(playback), this.#addChapters(playback), this.#addPreviews(playback)]) {
      added.catch(() => undefined);
    }
  }

  /** Return whether nothing of this name was added, and note that it is now. */
  #isNew(name: string): boolean {
    return this.#added.size < this.#added.add(name).size;
  }

  async #addCaptions({ captions }: Playback): Promise<void> {
    const load = this.#added;
    const missing = captions.filter(({ label }) => this.#isNew(`captions ${label}`));
    const tracks: shaka.extern.TextTrack[] = [];
    for (const { url, language, label, forced } of missing) {
      tracks.push(
        await this.#player.addTextTrackAsync(
          url, language, 'subtitles', 'text/vtt', undefined, label, forced,
        ),
      );
      if (this.#added !== load) return;
    }
    if (this.#player.getTextTracks().some((track) => track.active)) return;
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
    if (chapters.length === 0 || !this.#isNew('chapters')) return;
    const uri = `data:text/vtt;charset=utf-8,${encodeURIComponent(chaptersAsWebvtt(chapters))}`;
    await this.#player.addChaptersTrack(uri, UNDETERMINED, 'text/vtt');
  }

  async #addPreviews({ storyboard }: Playback): Promise<void> {
    if (storyboard !== null && this.#isNew('previews')) await this.#player.addThumbnailsTrack(storyboard, 'text/vtt');
  }
}

/** A tag's language, without its region or script. */
function primary(tag: string): string {
  return tag.toLowerCase().split('-')[0]!;
}
