import assert from 'node:assert/strict';
import { basename } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

import { build } from 'esbuild';

/** Bytes of an entry with all that it imports, minified and compressed; what is only loaded when needed is apart. */
async function sizes(entry: string): Promise<{ first: number; later: number }> {
  const source = fileURLToPath(new URL(`../../src/${entry}`, import.meta.url));
  const { outputFiles } = await build({
    entryPoints: [source],
    bundle: true,
    minify: true,
    splitting: true,
    format: 'esm',
    target: 'es2022',
    external: ['react', 'react/*'],
    outdir: 'out',
    write: false,
  });
  const compressed = (contents: Uint8Array): number => gzipSync(contents, { level: 9 }).length;
  const own = basename(entry, '.ts');
  const isOwn = ({ path }: { path: string }): boolean => basename(path, '.js') === own;
  return {
    first: compressed(outputFiles.find(isOwn)!.contents),
    later: outputFiles.filter((file) => !isOwn(file)).reduce((sum, { contents }) => sum + compressed(contents), 0),
  };
}

test('a page loads less than 10 kB, and the other ways only where they are needed', async (context) => {
  const core = await sizes('index.ts');
  context.diagnostic(`index ${core.first} bytes, fallback ${core.later} bytes`);
  assert.ok(core.first < 10_000, `${core.first}`);
  assert.ok(core.later > 0 && core.later < 2_500, `${core.later}`);
});
