/**
 * Gives Shaka's controls the names and roles that screen readers need, and the decimal point of an English page.
 *
 * Shaka (5.2) calls its settings menus, although they hold sliders and are walked with Tab; gives buttons a name other
 * than the text on them; and writes playback rates with a comma. It creates and renames controls at any time.
 */

const MENU_BUTTONS = ['overflow-menu', 'settings-menu', 'sub-menu', 'context-menu']
  .map((menu) => `.shaka-${menu} button[aria-label]`)
  .join(', ');

const MARKS = '.shaka-overflow-playback-rate-mark, .shaka-overflow-quality-mark';

/** Keep the controls in `container` right; returns its own undo. */
export function nameControls(container: HTMLElement): () => void {
  const observer = new MutationObserver(() => correct(container));
  observer.observe(container, { childList: true, subtree: true, attributeFilter: ['aria-label', 'role'] });
  correct(container);
  return () => observer.disconnect();
}

/** Changes nothing that is right already, because every change calls this again. */
function correct(container: HTMLElement): void {
  const each = (selector: string, change: (element: HTMLElement) => void) =>
    container.querySelectorAll<HTMLElement>(selector).forEach(change);
  each('[role="menu"]', (menu) => menu.setAttribute('role', 'group'));
  each('[role="menuitemradio"]', (item) => item.setAttribute('role', 'radio'));
  each('[role="menuitem"]', (item) => item.removeAttribute('role'));
  each('[aria-haspopup]', (button) => button.removeAttribute('aria-haspopup'));
  each(MENU_BUTTONS, (button) => {
    if (/[a-z]/i.test(button.textContent ?? '')) button.removeAttribute('aria-label');
  });
  // The mark on a button is part of what people see as its name.
  each('.shaka-controls-button-panel button[aria-label]', (button) => {
    const mark = button.querySelector<HTMLElement>(MARKS);
    const text = mark === null || mark.style.display === 'none' ? '' : (mark.textContent ?? '');
    const label = [button.getAttribute('aria-label')!.split(',')[0], text].filter(Boolean).join(', ');
    if (button.getAttribute('aria-label') !== label) button.setAttribute('aria-label', label);
  });
  const name = (selector: string, label: string) =>
    each(`${selector}:not([aria-label="${label}"])`, (control) => control.setAttribute('aria-label', label));
  name('.shaka-playback-rate-slider', 'Playback speed');
  name('.shaka-playback-rate-step-btn:first-child', 'Slower');
  name('.shaka-playback-rate-step-btn:last-child', 'Faster');
  each('.shaka-playback-rate-preset-btn', (button) => {
    const rate = `${button.dataset.rate}×`;
    if (button.textContent !== rate) button.textContent = rate;
  });
}
