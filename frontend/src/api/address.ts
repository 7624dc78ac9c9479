/**
 * Addresses on this server. A proxy may serve it below a path (`https://example.org/vod/`), which `<base>` in the page
 * tells. `root` is that address: `document.baseURI`.
 */

/** The full address of a path of the API or the site. The path may start with the root's path already. */
export function addressOf(path: string, root: string): string {
  return new URL(`.${pathBelow(path, root)}`, root).href;
}

/** The path below the root, with a leading slash: the same by whichever name or path the server is reached. */
export function pathBelow(address: string, root: string): string {
  const { pathname, search } = new URL(address, root);
  const top = new URL('.', root).pathname;
  return `${pathname.startsWith(top) ? pathname.slice(top.length - 1) : pathname}${search}`;
}
