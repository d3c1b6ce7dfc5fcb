/**
 * Builds dist/: the Node bundle (dist/node) and the page (dist/app), as vite.config.ts describes them.
 *
 *   node scripts/build.js               builds
 *   node scripts/build.js --if-stale    builds only when a source is newer than dist/
 *
 * The new bundles replace the old ones in one move, after both succeeded: a command started meanwhile sees
 * either all of the old or all of the new. One build runs at a time; others wait for it.
 * As npm's `prepare` without the development packages (npm ci --omit=dev) it says so and succeeds.
 */
import {
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stripVTControlCharacters } from 'node:util';
import { isFresh, root } from './lib/freshness.js';

const bundles = [
  { mode: 'node', what: 'command and worker threads' },
  { mode: 'app', what: 'page and web workers' },
];
const lockFile = join(root, '.cache', 'build.lock');

/** Waits until this process holds the lock; a lock whose holder is gone is taken over. */
async function lock() {
  mkdirSync(join(root, '.cache'), { recursive: true });
  for (;;) {
    try {
      writeFileSync(lockFile, String(process.pid), { flag: 'wx' });
      return;
    } catch (error) {
      if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EEXIST') throw error;
    }
    if (!holderLives()) rmSync(lockFile, { force: true });
    await sleep(100);
  }
}

function holderLives() {
  try {
    const pid = Number(readFileSync(lockFile, 'utf8'));
    // Just created, its number not yet written: alive, unless it stays so.
    if (!pid) return Date.now() - statSync(lockFile).mtimeMs < 2000;
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code === 'EPERM';
  }
}

async function build() {
  const { build: viteBuild } = await import('vite');
  const began = new Date();
  const fresh = join(root, '.cache', `dist-${process.pid}`);
  try {
    for (const { mode, what } of bundles) {
      const start = performance.now();
      const outDir = join(fresh, mode);
      await viteBuild({
        root,
        configFile: join(root, 'vite.config.ts'),
        mode,
        build: { outDir, emptyOutDir: true },
      });
      const seconds = ((performance.now() - start) / 1000).toFixed(1);
      console.log(`built dist/${mode.padEnd(5)} ${what.padEnd(28)} ${seconds} s`);
    }
    const stamp = join(fresh, '.built');
    writeFileSync(stamp, '');
    utimesSync(stamp, began, began);
    replaceDist(fresh);
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
}

function replaceDist(/** @type {string} */ fresh) {
  const dist = join(root, 'dist');
  const old = join(root, '.cache', `dist-old-${process.pid}`);
  if (existsSync(dist)) renameSync(dist, old);
  renameSync(fresh, dist);
  rmSync(old, { recursive: true, force: true });
}

async function main() {
  if (!existsSync(join(root, 'node_modules', 'vite'))) {
    const remedy = 'the build needs the development packages: run npm ci';
    if (process.env.npm_lifecycle_event === 'prepare') {
      console.log(`dist/ is not built: ${remedy}`);
      return;
    }
    throw new Error(remedy);
  }
  await lock();
  try {
    if (process.argv.includes('--if-stale') && isFresh()) return;
    await build();
  } finally {
    rmSync(lockFile, { force: true });
  }
}

try {
  await main();
} catch (error) {
  const message = `build: ${error instanceof Error ? error.message : error}`;
  // The bundler colours its messages letter by letter, whoever reads them.
  console.error(process.stderr.isTTY ? message : stripVTControlCharacters(message));
  process.exitCode = 1;
}
