/** Which page the URL shows. Two routes do not need a router package. */

type Route = { page: 'home' } | { page: 'watch'; id: string } | { page: 'not-found' };

export function routeOf(pathname: string): Route {
  if (pathname === '/') return { page: 'home' };
  const watch = /^\/watch\/([^/]+)\/?$/.exec(pathname);
  if (watch?.[1] === undefined) return { page: 'not-found' };
  try {
    return { page: 'watch', id: decodeURIComponent(watch[1]) };
  } catch {
    return { page: 'not-found' };
  }
}

export class Router {
  route = $state<Route>({ page: 'not-found' });
  /** The query string. Pages read and change it. */
  query = $state.raw(new URLSearchParams());

  /** Follow the address bar and clicks on internal links; returns its own undo. */
  start(): () => void {
    this.#read();
    const onPop = () => this.#read();
    const onClick = (event: MouseEvent) => this.#click(event);
    window.addEventListener('popstate', onPop);
    document.addEventListener('click', onClick);
    return () => {
      window.removeEventListener('popstate', onPop);
      document.removeEventListener('click', onClick);
    };
  }

  go(path: string): void {
    history.pushState(null, '', path);
    this.#read();
    window.scrollTo(0, 0);
  }

  /** Set or remove (null) one query parameter without a new history entry. */
  setQuery(name: string, value: string | null): void {
    const query = new URLSearchParams(this.query);
    if (value === null) query.delete(name);
    else query.set(name, value);
    const text = query.toString();
    history.replaceState(null, '', location.pathname + (text === '' ? '' : `?${text}`));
    this.query = query;
  }

  #read(): void {
    this.query = new URLSearchParams(location.search);
    const route = routeOf(location.pathname);
    // Replacing the route with an equal one would recreate the page and stop playback.
    if (JSON.stringify(route) !== JSON.stringify(this.route)) this.route = route;
  }

  #click(event: MouseEvent): void {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    if (!(event.target instanceof Element)) return;
    const link = event.target.closest('a');
    if (link === null || link.origin !== location.origin || link.target !== '' || link.hasAttribute('download')) return;
    if (routeOf(link.pathname).page === 'not-found') return;
    event.preventDefault();
    this.go(link.pathname + link.search);
  }
}
