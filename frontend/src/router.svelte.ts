/** Which page the URL shows, and where the viewer was on it. A few routes do not need a router package. */

import { pathBelow } from './api/address';

const SCROLLING_MS = 150;

/** What a history entry keeps, to show the page as the viewer left it. */
interface Place {
  top?: number;
  /** How many videos the list showed. */
  videos?: number;
  /** The `href` of the link by which the viewer left. */
  link?: string;
}

type Route =
  | { page: 'home' }
  | { page: 'images' }
  | { page: 'people' }
  | { page: 'devices' }
  | { page: 'login' }
  | { page: 'logout' }
  | { page: 'watch'; id: string }
  | { page: 'guest'; link: string }
  | { page: 'not-found' };

export function routeOf(pathname: string): Route {
  if (pathname === '/') return { page: 'home' };
  if (pathname === '/images') return { page: 'images' };
  if (pathname === '/people') return { page: 'people' };
  if (pathname === '/devices') return { page: 'devices' };
  if (pathname === '/login') return { page: 'login' };
  if (pathname === '/logout') return { page: 'logout' };
  const guest = /^\/upload\/([\w-]{22})\/?$/.exec(pathname);
  if (guest?.[1] !== undefined) return { page: 'guest', link: guest[1] };
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
  #scrolling: ReturnType<typeof setTimeout> | undefined;

  /** Of the present history entry. */
  get place(): Place {
    return (history.state as Place | null) ?? {};
  }

  remember(place: Place): void {
    history.replaceState({ ...this.place, ...place }, '');
  }

  /** Follow the address bar and clicks on internal links; returns its own undo. */
  start(): () => void {
    this.#read();
    const onPop = () => this.#read();
    const onClick = (event: MouseEvent) => this.#click(event);
    const onScroll = () => this.#scrolled();
    window.addEventListener('popstate', onPop);
    window.addEventListener('scroll', onScroll, { passive: true });
    document.addEventListener('click', onClick);
    return () => {
      window.removeEventListener('popstate', onPop);
      window.removeEventListener('scroll', onScroll);
      document.removeEventListener('click', onClick);
    };
  }

  /** `address` may be relative to the site's root. */
  go(address: string): void {
    clearTimeout(this.#scrolling);
    this.remember({ top: scrollY, link: address });
    history.pushState(null, '', new URL(address, document.baseURI));
    this.#read();
    window.scrollTo(0, 0);
  }

  /** Set or remove (null) one query parameter without a new history entry. */
  setQuery(name: string, value: string | null): void {
    const query = new URLSearchParams(this.query);
    if (value === null) query.delete(name);
    else query.set(name, value);
    const text = query.toString();
    history.replaceState(this.place, '', location.pathname + (text === '' ? '' : `?${text}`));
    this.query = query;
  }

  #read(): void {
    this.query = new URLSearchParams(location.search);
    const route = routeOf(pathBelow(location.pathname, document.baseURI));
    // Only the home page knows when it is as long as it was. Elsewhere the browser restores the position.
    history.scrollRestoration = route.page === 'home' ? 'manual' : 'auto';
    clearTimeout(this.#scrolling);
    // Replacing the route with an equal one would recreate the page and stop playback.
    if (JSON.stringify(route) !== JSON.stringify(this.route)) this.route = route;
  }

  #click(event: MouseEvent): void {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    if (!(event.target instanceof Element)) return;
    const link = event.target.closest('a');
    if (link === null || link.origin !== location.origin || link.target !== '' || link.hasAttribute('download')) return;
    if (routeOf(pathBelow(link.pathname, document.baseURI)).page === 'not-found') return;
    event.preventDefault();
    this.go(link.getAttribute('href') ?? link.href);
  }

  /** Browsers limit how often a page may change its history. */
  #scrolled(): void {
    clearTimeout(this.#scrolling);
    this.#scrolling = setTimeout(() => this.remember({ top: scrollY }), SCROLLING_MS);
  }
}
