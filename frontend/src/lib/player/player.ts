/**
 * Shaka Player with its UI on one video element.
 *
 * Imported on demand, so that Shaka is loaded by the watch page alone. An HLS playlist that still grows is
 * played from its beginning and simply ends one day; only an error, or an end that comes too early, makes the
 * player load again, with a fresh grant and at the same position.
 */

import shaka from 'shaka-player/dist/shaka-player.ui-es2021.js';
import 'shaka-player/dist/controls.css';

import type { Playback } from '../api/types';
import { preferredCodecs } from './codecs';
import { Extras } from './extras';
import { afterLoadError, afterPlayError } from './failures';
import { Reloads } from './reloads';
import { registerGrowingTime } from './time';

/** Half a segment: a shorter difference is rounding. */
const CUT_OFF_SECONDS = 2;

export type Format = 'hls' | 'dash';

export interface PlayerOptions {
  video: HTMLVideoElement;
  container: HTMLElement;
  /** Where to play, at first and whenever a grant has expired. */
  renew: () => Promise<Playback>;
  /** The whole video's length where it is known, while the playlist still grows. */
  durationSeconds: () => number | null;
  /** Called with the error that the player could not get over, null when it plays again. */
  onProblem: (error: unknown) => void;
}

export class VodPlayer {
  readonly #options: PlayerOptions;
  readonly #player: shaka.Player;
  readonly #overlay: shaka.ui.Overlay;
  readonly #extras: Extras;
  readonly #reloads: Reloads;
  #format: Format = 'hls';
  #startSeconds: number | null = null;
  #growing = false;
  #destroyed = false;

  constructor(options: PlayerOptions) {
    shaka.polyfill.installAll();
    registerGrowingTime(options.durationSeconds);
    this.#options = options;
    this.#player = new shaka.Player();
    this.#overlay = new shaka.ui.Overlay(this.#player, options.container, options.video);
    this.#overlay.configure(uiConfiguration(this.#overlay.isMobile()));
    this.#extras = new Extras(this.#player, location.href);
    this.#reloads = new Reloads({
      renew: options.renew,
      load: (playback) => this.#load(playback),
      positionSeconds: () => this.#position(),
      onGiveUp: options.onProblem,
      network: window,
    });
    this.#player.addEventListener('error', (event) => {
      const error = (event as unknown as { detail: unknown }).detail;
      if (afterPlayError(error) === 'reload') this.#reloads.failed(error);
    });
    this.#player.addEventListener('manifestupdated', () => this.#extras.settle());
    options.video.addEventListener('ended', this.#onEnded);
  }

  /** Play from `startSeconds`, null for the beginning. */
  async open(playback: Playback, format: Format, startSeconds: number | null): Promise<void> {
    await this.#player.attach(this.#options.video);
    const codecs = await preferredCodecs(navigator.mediaCapabilities);
    if (this.#destroyed) return;
    this.#player.configure(playerConfiguration(codecs));
    this.#format = format;
    this.#startSeconds = startSeconds;
    await this.#load(playback);
  }

  /** Change between HLS and DASH at the same position. */
  async switchTo(format: Format, playback: Playback): Promise<void> {
    if (format === this.#format) return;
    this.#format = format;
    await this.#load(playback);
  }

  /** Load what has changed, at the same position. */
  async reload(playback: Playback): Promise<void> {
    await this.#load(playback);
  }

  /** Take over what is there meanwhile, without an interruption. */
  offer(playback: Playback): void {
    this.#extras.offer(playback);
  }

  seek(seconds: number): void {
    const { video } = this.#options;
    video.currentTime = seconds;
    void video.play().catch(() => undefined);
  }

  /** Begin again after the player had given up. */
  async retry(): Promise<void> {
    await this.#reloads.now();
  }

  async destroy(): Promise<void> {
    this.#destroyed = true;
    this.#reloads.stop();
    this.#options.video.removeEventListener('ended', this.#onEnded);
    await this.#overlay.destroy();
  }

  async #load(playback: Playback): Promise<void> {
    this.#reloads.superseded();
    const { video } = this.#options;
    const wasPlaying = !video.paused;
    const position = this.#position();
    this.#startSeconds = position;
    this.#extras.loading(playback);
    try {
      await this.#player.load(this.#format === 'dash' ? playback.dash : playback.hls, position);
      this.#growing = this.#player.isDynamic();
      this.#extras.loaded();
      if (wasPlaying) await video.play().catch(() => undefined);
      this.#options.onProblem(null);
    } catch (error) {
      if (this.#destroyed) return;
      const consequence = afterLoadError(error);
      if (consequence === 'reload') this.#reloads.failed(error);
      else if (consequence === 'report') this.#options.onProblem(error);
    }
  }

  /**
   * Go on where a playlist that was still growing when it was loaded ended before the video does. Shaka takes the
   * shortest playlist that it holds for the length of all: one that it fetched for a switch of quality just before
   * the last segments came would cut the viewer off there, for good.
   */
  readonly #onEnded = (): void => {
    const whole = this.#options.durationSeconds();
    const cutOff = whole !== null && this.#options.video.currentTime < whole - CUT_OFF_SECONDS;
    if (this.#growing && cutOff) void this.#reloads.now();
  };

  #position(): number {
    const { video } = this.#options;
    // Before the first frame currentTime is 0 and says nothing about where the viewer wants to be.
    return video.readyState > 0 ? video.currentTime : (this.#startSeconds ?? 0);
  }
}

function playerConfiguration(codecs: string[]): object {
  return {
    preferredVideo: codecs.map((codec) => ({ codec })),
    manifest: {
      // They are added by Extras.
      disableText: true,
      // While it grows, all that is encoded may be watched: there is no live edge to keep away from.
      hls: { liveSegmentsDelay: 0 },
    },
    streaming: {
      bufferingGoal: 30,
      retryParameters: { maxAttempts: 4, baseDelay: 500, backoffFactor: 2, fuzzFactor: 0.3, timeout: 30_000 },
    },
  };
}

function uiConfiguration(mobile: boolean): object {
  return {
    controlPanelElements: mobile
      ? ['mute', 'growing_time', 'spacer', 'captions', 'quality', 'overflow_menu', 'fullscreen']
      : ['play_pause', 'mute_volume', 'growing_time', 'spacer', 'captions', 'quality', 'overflow_menu', 'fullscreen'],
    topControlPanelElements: [],
    overflowMenuButtons: ['chapter', 'language', 'playback_rate', 'picture_in_picture'],
    contextMenuElements: ['loop', 'picture_in_picture', 'statistics'],
    // No script of another origin.
    castSenderUrl: '',
    // The API gives every track a label of its own; two may be of one language.
    textTrackLabelFormat: shaka.ui.Overlay.TrackLabelFormat.LABEL,
    showVideoCodec: false,
    showAudioCodec: false,
    seekBarColors: { base: 'rgba(255,255,255,.25)', buffered: 'rgba(255,255,255,.45)', played: '#8b9aff', chapters: '#000' },
  };
}
