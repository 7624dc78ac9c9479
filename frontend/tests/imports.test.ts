import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

import { expect, it } from 'vitest';

const SRC = fileURLToPath(new URL('../src', import.meta.url));
const IMPORT = /(?:\bfrom|\bimport\(|\bimport)\s*'(\.[^']+)'/g;

/** Each source file with the source files it imports. Type-only and dynamic imports count too. */
function importGraph(): Map<string, string[]> {
  const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((file) => /\.(ts|svelte)$/.test(file));
  return new Map(
    files.map((file) => {
      const specifiers = [...readFileSync(join(SRC, file), 'utf8').matchAll(IMPORT)].map((match) => match[1]!);
      const targets = specifiers.filter((specifier) => !specifier.endsWith('.css')).map((specifier) => {
        const path = join(SRC, dirname(file), specifier);
        const target = [path, `${path}.ts`, `${path}.d.ts`].find(existsSync);
        if (target === undefined) throw new Error(`${file} imports ${specifier}, which does not exist`);
        return relative(SRC, target);
      });
      return [file, targets];
    }),
  );
}

/** The first circle found, as the list of files along it, or null. */
function findCircle(graph: Map<string, string[]>): string[] | null {
  const done = new Set<string>();
  const visit = (file: string, path: string[]): string[] | null => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
    if (done.has(file)) return null;
    for (const target of graph.get(file) ?? []) {
      const circle = visit(target, [...path, file]);
      if (circle !== null) return circle;
    }
    done.add(file);
    return null;
  };
  for (const file of graph.keys()) {
    const circle = visit(file, []);
    if (circle !== null) return circle;
  }
  return null;
}

it('finds a circle', () => {
  expect(findCircle(new Map([['a', ['b']], ['b', ['c']], ['c', ['b']]]))).toEqual(['b', 'c', 'b']);
});

it('the source files import each other without a circle', () => {
  const graph = importGraph();
  expect(graph.get('App.svelte')).toContain('site.ts');
  expect(graph.get('upload/uploads.svelte.ts')).toContain('upload/uppy.ts');
  expect(findCircle(graph)).toBeNull();
});

it('each folder imports only from the folders it may depend on', () => {
  const allowed: Record<string, string[]> = {
    api: ['api'],
    ui: ['ui'],
    session: ['session', 'api', 'ui', 'site.ts'],
    people: ['people', 'api', 'ui', 'site.ts'],
    player: ['player', 'api', 'ui'],
    upload: ['upload', 'api', 'session', 'ui', 'site.ts'],
    jobs: ['jobs', 'api', 'ui'],
    guests: ['guests', 'api', 'session', 'upload', 'ui', 'site.ts'],
    library: ['library', 'api', 'guests', 'jobs', 'upload', 'ui', 'site.ts'],
    share: ['share', 'api', 'ui', 'watch', 'site.ts'],
    watch: ['watch', 'api', 'jobs', 'player', 'share', 'ui', 'site.ts'],
    embed: ['embed', 'api', 'player', 'share', 'ui', 'watch'],
  };
  for (const [file, targets] of importGraph()) {
    const folder = file.split('/')[0]!;
    for (const target of targets) {
      if (folder in allowed) expect(allowed[folder], `${file} imports ${target}`).toContain(target.split('/')[0]);
    }
  }
});
