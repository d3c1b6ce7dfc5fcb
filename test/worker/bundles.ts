/** Bundles of thread entries for tests of the unit ring, which runs before dist/ has to be there. */
import { mkdtemp, rm } from 'node:fs/promises';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'vite';
import { packageRoot } from '../../src/worker/node/threads.ts';

export interface Bundles {
  textWorker: string;
  remove(): Promise<void>;
}

/** Built as vite.config.ts builds dist/node, in the package's folder so that its packages are found. */
export async function buildTextWorker(): Promise<Bundles> {
  const root = packageRoot();
  mkdirSync(join(root, '.cache'), { recursive: true });
  const folder = await mkdtemp(join(root, '.cache', 'test-worker-'));
  await build({
    root,
    configFile: false,
    logLevel: 'warn',
    publicDir: false,
    build: {
      ssr: true,
      outDir: folder,
      minify: false,
      rolldownOptions: {
        input: { textWorker: 'src/worker/node/textWorker.ts' },
        output: { entryFileNames: '[name].mjs', chunkFileNames: '[name].mjs' },
      },
    },
  });
  return {
    textWorker: join(folder, 'textWorker.mjs'),
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}
