/** The access code in the address of this page, and its passphrase, which this tab remembers. */

import type { Access } from '../api/types';

/** null: the address has no code. */
export function accessOf(code: string | null): Access | null {
  if (code === null) return null;
  try {
    return { code, passphrase: sessionStorage.getItem(place(code)) };
  } catch {
    return { code, passphrase: null }; // the browser keeps nothing for this page
  }
}

export function rememberPassphrase({ code, passphrase }: Access): void {
  try {
    if (passphrase !== null) sessionStorage.setItem(place(code), passphrase);
  } catch {
    // Then it is asked for again.
  }
}

const place = (code: string) => `vodbucket-passphrase ${code}`;
