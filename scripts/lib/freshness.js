/**
 * Is dist/ newer than what it is made from? Used by the command in a clone, by the tests and by the build itself.
 * Knows nothing of how the bundles are made (scripts/build.js).
 */
import { spawn } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../../', import.meta.url));

/** Written last by the build; its time is when the build began, so an edit made meanwhile makes dist/ stale. */
export const stampFile = join(root, 'dist', '.built');

const sources = ['src', 'shaders', 'vite.config.ts', 'package.json', 'package-lock.json'];

/** Newest modification time (ms) of a file, or of a folder and all in it; 0 when it is not there. */
function newestTime(/** @type {string} */ path) {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (!stat) return 0;
  if (!stat.isDirectory()) return stat.mtimeMs;
  // A folder's own time changes when a file in it is added or removed.
  let newest = stat.mtimeMs;
  for (const name of readdirSync(path)) newest = Math.max(newest, newestTime(join(path, name)));
  return newest;
}

/** @returns {boolean} whether dist/ was built, from the sources as they are now */
export function isFresh() {
  const built = newestTime(stampFile);
  return built > 0 && sources.every((source) => newestTime(join(root, source)) <= built);
}

/**
 * Builds dist/ unless it is fresh; concurrent callers build once.
 * @throws {Error} when the build fails; its own messages are on stderr by then.
 */
export async function ensureBuilt() {
  if (isFresh()) return;
  process.stderr.write('nanoflow: dist/ is older than the sources, building...\n');
  const build = spawn(process.execPath, [join(root, 'scripts', 'build.js'), '--if-stale'], {
    cwd: root,
    // The bundles' lines go to stderr: the command's stdout belongs to its own output.
    stdio: ['ignore', 2, 2],
  });
  const code = await new Promise((resolve, reject) => {
    build.once('error', reject);
    build.once('exit', resolve);
  });
  if (code !== 0) throw new Error(`the build failed (exit ${code}, its messages are above)`);
}
