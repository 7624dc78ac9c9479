import { svelte } from '@sveltejs/vite-plugin-svelte';
import type { Plugin } from 'vite';
import { defineConfig } from 'vitest/config';

// The API that `npm run dev` talks to; `make run` starts one on this port.
const API = process.env.API_URL ?? 'http://127.0.0.1:3000';

/** Shaka's style sheet names a web font on a foreign host; the page must load nothing from elsewhere. */
function withoutForeignFonts(): Plugin {
  return {
    name: 'without-foreign-fonts',
    enforce: 'pre',
    transform(code, id) {
      if (!id.includes('shaka-player') || !id.split('?')[0]?.endsWith('.css')) return null;
      return { code: code.replace(/@font-face\s*\{[^}]*\}/g, ''), map: null };
    },
  };
}

export default defineConfig({
  plugins: [withoutForeignFonts(), svelte()],
  // Vitest would otherwise take Svelte's server build, where runes do not react.
  ...(process.env.VITEST ? { resolve: { conditions: ['browser'] } } : {}),
  server: {
    host: '127.0.0.1',
    proxy: { '/api': API, '/play': API },
  },
  build: {
    target: 'es2022',
    // A data: URL would need an exception in the content security policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // Shaka with its UI is one minified module of 0.9 MB, loaded by the watch page alone.
    chunkSizeWarningLimit: 1000,
  },
  test: {
    environment: 'node',
    include: ['tests/**/*.test.ts'],
    // What browsers get of tus-js-client; that for Node takes no Blob.
    alias: { 'tus-js-client': 'tus-js-client/lib.esm/browser/index.js' },
    server: { deps: { inline: [/@uppy/, /tus-js-client/] } },
  },
});
