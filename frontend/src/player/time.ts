/**
 * A control-panel element that shows position and length.
 *
 * Shaka's own element shows "LIVE" while an EVENT playlist grows. A video that is still encoding is not live, so this
 * one shows the position within the whole video.
 */

import shaka from 'shaka-player/dist/shaka-player.ui-es2021.js';

import { formatClock } from '../ui/format';

const ELEMENT = 'growing_time';

export function registerGrowingTime(durationSeconds: () => number | null): void {
  class GrowingTime extends shaka.ui.Element {
    readonly #text = document.createElement('div');

    constructor(parent: HTMLElement, controls: shaka.ui.Controls) {
      super(parent, controls);
      this.#text.className = 'growing-time';
      parent.append(this.#text);
      this.eventManager!.listen(controls, 'timeandseekrangeupdated', () => this.#update());
      this.#update();
    }

    #update(): void {
      const range = this.player!.seekRange();
      const total = this.player!.isDynamic() ? (durationSeconds() ?? range.end) : range.end - range.start;
      const text = `${formatClock(this.controls!.getDisplayTime() - range.start)} / ${formatClock(Math.round(total))}`;
      if (this.#text.textContent !== text) this.#text.textContent = text;
    }
  }

  shaka.ui.Controls.registerElement(ELEMENT, {
    create: (parent: HTMLElement, controls: shaka.ui.Controls) => new GrowingTime(parent, controls),
  });
}
