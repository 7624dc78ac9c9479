/** The page's composition root: one of each, made here and handed to the components by context. */

import { createContext } from 'svelte';

import { Api } from './api/client';
import { Library } from './library.svelte';
import { Router } from './router.svelte';
import { Session } from './session.svelte';
import { UploadQueue } from './upload/queue.svelte';
import { uploadRaw } from './upload/raw';

export interface Site {
  api: Api;
  router: Router;
  session: Session;
  library: Library;
  uploads: UploadQueue;
}

export const [siteContext, provideSite] = createContext<Site>();

export function createSite(): Site {
  const api = new Api();
  const library = new Library(api);
  const uploads = new UploadQueue(uploadRaw, {
    onUnauthorized: () => api.reportUnauthorized(),
    onUploaded: (item, sentTitle) => {
      const title = item.title.trim();
      const renamed = title !== sentTitle && item.videoId !== null;
      const saved = renamed ? api.change(item.videoId!, { title }) : Promise.resolve();
      // The video is safe; a title that could not be saved can be edited again on the watch page.
      void saved.catch(() => undefined).then(() => library.refresh());
    },
  });
  return { api, router: new Router(), session: new Session(api), library, uploads };
}
