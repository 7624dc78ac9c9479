/** Stands in for Uppy's `@transloadit/prettier-bytes`, which counts in 1024s and calls that MB (vite.config.ts). */

export { formatBytes as prettierBytes } from './format';
