/** Corrects Uppy's panel: screen readers get its list, and nobody is offered a retry that cannot help. */

import type { Sender } from './sending';

/** Uppy draws the panel again whenever something changes. */
export function correctPanel(panel: HTMLElement, uppy: Sender): void {
  const correct = () => {
    // @uppy/dashboard 6.0 leaves out the role if there is one file, which still is a list item.
    panel.querySelector('.uppy-Dashboard-files:not([role])')?.setAttribute('role', 'list');
    const failed = uppy.getFiles().filter((file) => file.error);
    panel.classList.toggle('no-retry', failed.length > 0 && failed.every((file) => file.meta.final));
    for (const file of uppy.getFiles()) {
      const row = panel.querySelector(`#${CSS.escape(`uppy_${file.id}`)}`);
      row?.toggleAttribute('data-final', Boolean(file.error && file.meta.final));
    }
  };
  new MutationObserver(correct).observe(panel, { childList: true, subtree: true });
  uppy.on('state-update', correct);
}
