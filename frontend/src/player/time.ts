/**
 * Shows a video that is still being encoded as a film that grows. Shaka shows a live stream: "LIVE", and times counted
 * back from its end.
 *
 * A control-panel element shows the position within the whole video. Shaka's seek bar takes the share of its place that
 * is ready, and the rest is marked (Player.svelte). The times above the seek bar are counted from the beginning.
 */

import shaka from 'shaka-player/dist/shaka-player.ui-es2021.js';

import { formatClock, formatPosition } from '../ui/format';

const ELEMENT = 'growing_time';
/** Half the thumb of Shaka's range elements, which it draws within the bar. */
const HALF_THUMB_PX = 6;

export function registerGrowingTime(durationSeconds: () => number | null): void {
  class GrowingTime extends shaka.ui.Element {
    readonly #text = document.createElement('div');
    readonly #container: HTMLElement;
    readonly #preview = new MutationObserver(() => this.#correctPreview());
    /** Where the pointer is, or null if the keyboard moved the seek bar last. */
    #pointerX: number | null = null;
    #bar: HTMLInputElement | null = null;

    constructor(parent: HTMLElement, controls: shaka.ui.Controls) {
      super(parent, controls);
      this.#container = controls.getControlsContainer();
      this.#text.className = 'growing-time';
      parent.append(this.#text);
      this.eventManager!.listen(controls, 'timeandseekrangeupdated', () => this.#update());
      this.eventManager!.listen(this.#container, 'pointermove', (event) => {
        this.#pointerX = (event as unknown as PointerEvent).clientX;
      });
      this.eventManager!.listen(this.#container, 'keydown', () => (this.#pointerX = null));
      this.#update();
    }

    override release(): void {
      this.#preview.disconnect();
      super.release();
    }

    #update(): void {
      const { start, end } = this.player!.seekRange();
      const growing = this.player!.isDynamic();
      // A film has no length that is shorter than its ready part.
      const total = (growing ? Math.max(durationSeconds() ?? 0, end) : end) - start;
      const position = formatPosition(this.controls!.getDisplayTime() - start, total);
      if (this.#text.textContent !== position) this.#text.textContent = position;
      this.#container.style.setProperty('--ready', growing && total > 0 ? String((end - start) / total) : '1');
      this.#findBar()?.setAttribute('aria-valuetext', position.replace('/', 'of'));
    }

    /** The seek bar is created after this element. */
    #findBar(): HTMLInputElement | null {
      if (this.#bar === null) {
        this.#bar = this.#container.querySelector<HTMLInputElement>('.shaka-seek-bar');
        const time = this.#container.querySelector('.shaka-player-ui-thumbnail-time');
        if (time !== null) this.#preview.observe(time, { childList: true });
      }
      return this.#bar;
    }

    #correctPreview(): void {
      const bar = this.#bar;
      const time = this.#container.querySelector('.shaka-player-ui-thumbnail-time');
      if (bar === null || time === null || !this.player?.isDynamic()) return;
      let seconds = Number(bar.value);
      if (this.#pointerX !== null) {
        const { left, width } = bar.getBoundingClientRect();
        const share = (this.#pointerX - left - HALF_THUMB_PX) / (width - 2 * HALF_THUMB_PX);
        seconds = Number(bar.min) + Math.min(1, Math.max(0, share)) * (Number(bar.max) - Number(bar.min));
      }
      time.textContent = formatClock(seconds);
      // That was our own change.
      this.#preview.takeRecords();
    }
  }

  shaka.ui.Controls.registerElement(ELEMENT, {
    create: (parent: HTMLElement, controls: shaka.ui.Controls) => new GrowingTime(parent, controls),
  });
}
