/** Which of several tabs remembers its files for the next visit: they would take each other's uploads for their own. */

const LOCK = 'vodbucket-uploads';
/** A page that is being reloaded holds the lock for a moment longer. */
const RELOAD_MS = 1_000;

/** Resolves to whether this page is the one, and it is until it is left. */
export function remembersAlone(): Promise<boolean> {
  // Browsers give locks to secure pages alone; elsewhere nothing tells tabs apart.
  if (!('locks' in navigator)) return Promise.resolve(true);
  return new Promise((resolve) => {
    navigator.locks
      .request(LOCK, { signal: AbortSignal.timeout(RELOAD_MS) }, () => {
        resolve(true);
        return new Promise(() => undefined);
      })
      .catch(() => resolve(false));
  });
}
