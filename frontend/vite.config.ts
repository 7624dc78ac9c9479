import { fileURLToPath } from 'node:url';

import { svelte } from '@sveltejs/vite-plugin-svelte';
import type { Plugin } from 'vite';
import { defineConfig } from 'vitest/config';

// The API for `npm run dev`. `make run` starts one on this port.
const API = process.env.API_URL ?? 'http://127.0.0.1:3000';

/** Removes the third-party web font from Shaka's style sheet: the page must load nothing from other hosts. */
function withoutRemoteFonts(): Plugin {
  return {
    name: 'without-remote-fonts',
    enforce: 'pre',
    transform(code, id) {
      if (!id.includes('shaka-player') || !id.split('?')[0]?.endsWith('.css')) return null;
      return { code: code.replace(/@font-face\s*\{[^}]*\}/g, ''), map: null };
    },
  };
}

export default defineConfig({
  // Addresses are relative to `<base>`, because a proxy may serve the site below a path.
  base: './',
  plugins: [withoutRemoteFonts(), svelte()],
  resolve: {
    alias: { '@transloadit/prettier-bytes': fileURLToPath(new URL('src/ui/prettier-bytes.ts', import.meta.url)) },
    // Otherwise Vitest uses Svelte's server build, where runes are not reactive.
    ...(process.env.VITEST ? { conditions: ['browser'] } : {}),
  },
  server: {
    host: '127.0.0.1',
    proxy: { '/api': { target: API, ws: true }, '/play': API },
  },
  build: {
    target: 'es2022',
    // data: URLs would need an exception in the content security policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // Shaka with its UI is one minified module of 0.9 MB. Only the watch page loads it.
    chunkSizeWarningLimit: 1000,
    // On a slow machine, `make run` would print how long each plugin took.
    rolldownOptions: { input: ['index.html', 'embed.html'], checks: { pluginTimings: false } },
  },
  test: {
    environment: 'node',
    include: ['tests/**/*.test.ts'],
    // The browser build of tus-js-client, because the Node build does not accept a Blob.
    alias: { 'tus-js-client': 'tus-js-client/lib.esm/browser/index.js' },
    server: { deps: { inline: [/@uppy/, /tus-js-client/] } },
  },
});
