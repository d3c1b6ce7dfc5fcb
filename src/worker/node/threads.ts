/** Starting threads in Node. The bundles lie in dist/node/ of the package, whoever imports this file. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker, type ResourceLimits } from 'node:worker_threads';
import * as Comlink from 'comlink';
import nodeEndpoint from 'comlink/dist/esm/node-adapter.mjs';

/** Root folder of this package: the nearest one above with a package.json. */
export function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) {
    const parent = dirname(folder);
    if (parent === folder) throw new Error(`no package.json above ${fileURLToPath(import.meta.url)}`);
    folder = parent;
  }
  return folder;
}

export interface Thread<Api> {
  api: Comlink.Remote<Api>;
  crashed: Promise<string>;
  terminate(): Promise<void>;
}

/** Starts dist/node/<name>.js. */
export function startThread<Api>(name: string, resourceLimits?: ResourceLimits): Thread<Api> {
  const file = join(packageRoot(), 'dist', 'node', `${name}.js`);
  if (!existsSync(file)) throw new Error(`${file} is missing; run: npm run build`);
  const worker = new Worker(file, { name, resourceLimits });
  let ending = false;
  const crashed = new Promise<string>((resolve) => {
    worker.once('error', (error) => resolve(`${name}: ${error instanceof Error ? error.message : error}`));
    worker.once('exit', (code) => {
      if (!ending) resolve(`${name} exited with code ${code}`);
    });
  });
  return {
    api: Comlink.wrap<Api>(nodeEndpoint(worker)),
    crashed,
    async terminate() {
      ending = true;
      await worker.terminate();
    },
  };
}
