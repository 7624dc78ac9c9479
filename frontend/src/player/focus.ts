/** Returns the focus to the button that opened a menu when the keyboard closes the menu: Shaka (5.2) leaves it nowhere. */

/** Keep the focus of `container`; returns its own undo. */
export function keepFocus(container: HTMLElement): () => void {
  let opener: HTMLElement | null = null;
  const onFocus = (event: FocusEvent) => {
    opener = (event.target as HTMLElement).closest<HTMLElement>('.shaka-controls-button-panel button') ?? opener;
  };
  const onKey = (event: KeyboardEvent) => {
    const before = event.target as HTMLElement;
    setTimeout(() => {
      if (before.closest('.shaka-settings-menu, .shaka-overflow-menu') && !before.checkVisibility()) opener?.focus();
    });
  };
  container.addEventListener('focusin', onFocus);
  container.addEventListener('keydown', onKey);
  return () => {
    container.removeEventListener('focusin', onFocus);
    container.removeEventListener('keydown', onKey);
  };
}
