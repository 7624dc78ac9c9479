/** The composition root: creates the shared objects and passes them to components by context. */

import { createContext } from 'svelte';

import { Api } from './api/client';
import { Library } from './library/library.svelte';
import { Router } from './router.svelte';
import { Session } from './session/session.svelte';
import { Uploads } from './upload/uploads.svelte';

export const [siteContext, provideSite] = createContext<ReturnType<typeof createSite>>();

export function createSite() {
  const api = new Api(document.baseURI);
  const session = new Session(api);
  const library = new Library(api);
  const uploads = new Uploads(api, session.gate, () => void library.refresh());
  return { api, router: new Router(), session, library, uploads };
}
