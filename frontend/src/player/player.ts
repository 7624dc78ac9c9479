/**
 * Shaka Player with its UI on one video element.
 *
 * Imported on demand, so that only the watch page loads Shaka. A growing HLS playlist plays from the beginning and ends
 * when encoding does. The player reloads at the same position, with a fresh grant, after an error or a premature end, and
 * when a higher quality is ready: then only once the viewer pauses, seeks or asks for it.
 */

import shaka from 'shaka-player/dist/shaka-player.ui-es2021.js';
import 'shaka-player/dist/controls.css';

import { ApiError } from '../api/errors';
import type { Playback } from '../api/types';
import { preferredCodecs } from './codecs';
import { Extras } from './extras';
import { isUnplayable, onLoadError, onPlayError } from './failures';
import { keepFocus } from './focus';
import { nameControls } from './names';
import { Reloads } from './reloads';
import { registerGrowingTime } from './time';
import { Upgrades } from './upgrades';

/** Half a segment. A smaller difference is rounding. */
const CUT_OFF_SECONDS = 2;

/** Asked for at once: it takes a moment, and pages load this module before there is anything to play. */
const codecs = preferredCodecs(navigator.mediaCapabilities);

export type Format = 'hls' | 'dash';

interface PlayerOptions {
  video: HTMLVideoElement;
  container: HTMLElement;
  /** Get a fresh grant when one has expired. */
  renew: () => Promise<Playback>;
  /** The full length, if known, while the playlist grows. */
  durationSeconds: () => number | null;
  /** Called with an error that the player could not recover from, and with null when it plays again. */
  onProblem: (error: unknown) => void;
  /** Called with whether a higher quality is ready and not loaded yet. */
  onBetter: (isReady: boolean) => void;
}

export class VodPlayer {
  readonly #options: PlayerOptions;
  readonly #player: shaka.Player;
  readonly #overlay: shaka.ui.Overlay;
  readonly #extras: Extras;
  readonly #reloads: Reloads;
  readonly #upgrades: Upgrades;
  readonly #undo: (() => void)[];
  #format: Format = 'hls';
  #startSeconds: number | null = null;
  #growing = false;
  /** This browser cannot play the download, which is all there is so far. */
  #stuck = false;
  #destroyed = false;

  constructor(options: PlayerOptions) {
    shaka.polyfill.installAll();
    registerGrowingTime(options.durationSeconds);
    this.#options = options;
    this.#player = new shaka.Player();
    this.#overlay = new shaka.ui.Overlay(this.#player, options.container, options.video);
    this.#overlay.configure(uiConfiguration(this.#overlay.isMobile(), options.video.autoplay));
    // The page is in English too.
    this.#overlay.getControls()?.getLocalization()?.changeLocale(['en']);
    this.#undo = [nameControls(options.container), keepFocus(options.container)];
    this.#extras = new Extras(this.#player);
    this.#reloads = new Reloads({
      renew: options.renew,
      load: (playback) => this.load(playback),
      positionSeconds: () => this.#position(),
      onGiveUp: options.onProblem,
      network: window,
    });
    this.#upgrades = new Upgrades({
      video: options.video,
      isDragging: () => this.#overlay.getControls()?.isSeeking() ?? false,
      load: (playback) => this.load(playback),
      onBetter: options.onBetter,
    });
    this.#player.addEventListener('error', (event) => {
      const error = (event as unknown as { detail: unknown }).detail;
      if (onPlayError(error) === 'reload') this.#reloads.failed(error);
    });
    this.#player.addEventListener('manifestupdated', () => this.#extras.addWhenReady());
    options.video.addEventListener('ended', this.#onEnded);
    // A later load begins paused if the viewer has paused.
    options.video.addEventListener('playing', () => (options.video.autoplay = false), { once: true });
  }

  /** Play from `startSeconds`, or from the beginning if null. */
  async open(playback: Playback, format: Format, startSeconds: number | null): Promise<void> {
    await this.#player.attach(this.#options.video);
    const preferred = await codecs;
    if (this.#destroyed) return;
    this.#player.configure(playerConfiguration(preferred));
    this.#format = format;
    this.#startSeconds = startSeconds;
    await this.load(playback);
  }

  /** Switch between HLS and DASH at the same position. */
  async switchTo(format: Format, playback: Playback): Promise<void> {
    if (format === this.#format) return;
    this.#format = format;
    await this.load(playback);
  }

  /** Take a newer playback: add what it has, and offer its higher quality. Never interrupts the viewer. */
  update(playback: Playback): void {
    this.#extras.update(playback);
    if (this.#stuck && playback.presentation !== 'reduced') void this.load(playback);
    else this.#upgrades.update(playback);
  }

  /** Load the higher quality that is ready. */
  async upgrade(): Promise<void> {
    await this.#upgrades.now();
  }

  seek(seconds: number): void {
    const { video } = this.#options;
    video.currentTime = seconds;
    void video.play().catch(() => undefined);
  }

  /** Try again after the player gave up. */
  async retry(): Promise<void> {
    await this.#reloads.now();
  }

  async destroy(): Promise<void> {
    this.#destroyed = true;
    this.#reloads.stop();
    this.#upgrades.stop();
    this.#undo.forEach((undo) => undo());
    this.#options.video.removeEventListener('ended', this.#onEnded);
    await this.#overlay.destroy();
  }

  /** Load at the current position. */
  async load(playback: Playback): Promise<void> {
    this.#reloads.superseded();
    const { video } = this.#options;
    const wasPlaying = !video.paused;
    const position = this.#position();
    this.#startSeconds = position;
    this.#upgrades.loading(playback);
    this.#extras.loading(playback);
    this.#stuck = false;
    try {
      await this.#player.load(this.#addressOf(playback), position);
      this.#growing = this.#player.isDynamic();
      this.#extras.loaded();
      if (wasPlaying) await video.play().catch(() => undefined);
      this.#options.onProblem(null);
    } catch (error) {
      if (this.#destroyed) return;
      const consequence = onLoadError(error);
      if (consequence === 'reload') this.#reloads.failed(error);
      else if (consequence === 'report') {
        this.#stuck = playback.presentation === 'reduced';
        this.#options.onProblem(isUnplayable(error) ? new ApiError('unplayable', 0, 'no playable format') : error);
      }
    }
  }

  #addressOf({ presentation, webm, hls, dash }: Playback): string {
    if (presentation === 'reduced' && webm !== null) return webm;
    return this.#format === 'dash' ? dash : hls;
  }

  /**
   * Reload when playback ended before the video did. Shaka takes the length of the shortest playlist it holds. A playlist
   * fetched for a quality switch just before the last segments appeared would otherwise end playback early for good.
   */
  readonly #onEnded = (): void => {
    const whole = this.#options.durationSeconds();
    const cutOff = whole !== null && this.#options.video.currentTime < whole - CUT_OFF_SECONDS;
    if (this.#growing && cutOff) void this.#reloads.now();
  };

  #position(): number {
    const { video } = this.#options;
    // Before the first frame, currentTime is 0 and does not say where the viewer wants to be.
    return video.readyState > 0 ? video.currentTime : (this.#startSeconds ?? 0);
  }
}

function playerConfiguration(codecs: string[]): object {
  return {
    preferredVideo: codecs.map((codec) => ({ codec })),
    // On a busy machine, Shaka would take a rung out of the quality menu for 30 s.
    abr: { droppedFrames: false },
    manifest: {
      // Extras adds captions.
      disableText: true,
      // Everything encoded so far may be watched, so there is no live edge to stay behind.
      hls: { liveSegmentsDelay: 0 },
    },
    streaming: {
      bufferingGoal: 30,
      // The server holds back a segment of the first look until it is made, and then asks for another try.
      retryParameters: {
        maxAttempts: 8,
        baseDelay: 500,
        backoffFactor: 1.5,
        fuzzFactor: 0.3,
        timeout: 30_000,
        connectionTimeout: 30_000,
        stallTimeout: 0,
      },
    },
  };
}

function uiConfiguration(mobile: boolean, autoplay: boolean): object {
  return {
    // Phones have it anyway.
    ...(mobile || autoplay ? {} : { bigButtons: ['play_pause_buffering'], showBufferingSpinner: false }),
    controlPanelElements: mobile
      ? ['mute', 'growing_time', 'spacer', 'captions', 'quality', 'overflow_menu', 'fullscreen']
      : ['play_pause', 'mute_volume', 'growing_time', 'spacer', 'captions', 'quality', 'overflow_menu', 'fullscreen'],
    topControlPanelElements: [],
    overflowMenuButtons: ['chapter', 'language', 'playback_rate', 'picture_in_picture'],
    contextMenuElements: ['loop', 'picture_in_picture', 'statistics'],
    // Load no script from another origin.
    castSenderUrl: '',
    // Two tracks may share a language, so show the unique label that the API gives each.
    textTrackLabelFormat: shaka.ui.Overlay.TrackLabelFormat.LABEL,
    showVideoCodec: false,
    showAudioCodec: false,
    seekBarColors: { base: 'rgba(255,255,255,.25)', buffered: 'rgba(255,255,255,.45)', played: '#8b9aff', chapters: '#000' },
  };
}
