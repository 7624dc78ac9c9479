/** Sign-in through the server's OpenID Connect provider: the browser leaves the page and comes back. */

const keyOf = (name: string, root: string) => `vodbucket ${name} ${root}`;

/** Remember where the viewer was. */
export function leaveForSignIn(root: string): void {
  sessionStorage.setItem(keyOf('place', root), location.pathname + location.search);
  localStorage.setItem(keyOf('signed in there', root), 'yes');
}

/** Show the page that the viewer left, and return the code of what went wrong, if anything did. */
export function comeBackFromSignIn(root: string): string | null {
  const problem = new URLSearchParams(location.hash.slice(1)).get('sign-in');
  const place = sessionStorage.getItem(keyOf('place', root));
  sessionStorage.removeItem(keyOf('place', root));
  if (place !== null || problem !== null) history.replaceState(null, '', place ?? root);
  return problem;
}

/** Whether this browser signed in there the last time. Tells it only once. */
export function wasSignedInThere(root: string): boolean {
  const key = keyOf('signed in there', root);
  const there = localStorage.getItem(key) !== null;
  localStorage.removeItem(key);
  return there;
}
