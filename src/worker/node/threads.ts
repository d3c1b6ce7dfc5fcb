/** Starting threads and processes in Node. The bundles lie in dist/node/ of the package, whoever imports this file. */
import { fork } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import * as Comlink from 'comlink';
import nodeEndpoint from 'comlink/dist/esm/node-adapter.mjs';
import type { Thread } from '../thread.ts';
import { processEndpoint } from './processEndpoint.ts';

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

/** The bundle of a thread's entry. @throws Error when it was not built */
export function bundle(name: 'engineWorker' | 'textWorker'): string {
  const file = join(packageRoot(), 'dist', 'node', `${name}.js`);
  if (!existsSync(file)) throw new Error(`${file} is missing; run: npm run build`);
  return file;
}

export function startThread<Api>(file: string, name: string): Thread<Api> {
  const worker = new Worker(file, { name });
  return {
    api: Comlink.wrap<Api>(nodeEndpoint(worker)),
    crashed: new Promise((resolve) => {
      const fail = (error: unknown): void =>
        resolve(`${name}: ${error instanceof Error ? error.message : String(error)}`);
      worker.once('error', fail);
      worker.once('messageerror', fail);
      worker.once('exit', (code) => resolve(`${name} exited with code ${code}`));
    }),
    terminate: async () => void (await worker.terminate()),
  };
}

/**
 * A thread that is a process of its own, for code that may ask for any amount of memory: a thread's `resourceLimits` do
 * not hold against one huge allocation (Node then ends the whole process), and a thread in a long native call does not
 * stop when it is told to.
 */
export function startProcess<Api>(file: string, name: string, maxMegabytes: number): Thread<Api> {
  const child = fork(file, {
    execArgv: [`--max-old-space-size=${maxMegabytes}`, '--max-semi-space-size=16'],
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  let said = '';
  const stderr = child.stderr!.setEncoding('utf8');
  stderr.on('data', (text: string) => (said = (said + text).slice(0, 4000)));
  const silent = new Promise((resolve) => stderr.once('close', resolve));
  const exited = new Promise<string>((resolve) =>
    child.once('exit', (code, signal) => resolve(signal ?? `code ${code}`)),
  );
  return {
    api: Comlink.wrap<Api>(processEndpoint(child)),
    crashed: new Promise((resolve) => {
      child.once('error', (error) => resolve(`${name}: ${error.message}`));
      // What the process said last may come after its exit.
      void Promise.all([exited, silent]).then(([how]) => {
        const why = /heap (limit|out of memory)/i.test(said)
          ? `needed more than ${maxMegabytes} MB of memory`
          : `ended with ${how} ${said.trim().split('\n').at(-1)}`.trim();
        resolve(`${name} ${why}`);
      });
    }),
    async terminate() {
      // A process that did not start has no pid, and kill() would reach the group of this one.
      if (child.pid !== undefined && child.kill('SIGKILL')) await exited;
    },
  };
}
