/** The source files of the repository, for the checks. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './freshness.js';

/**
 * @param {string} folder - in the repository; one that is not there has no files
 * @param {RegExp} name - which file names to take
 * @returns {string[]} paths in the repository, sorted, with forward slashes
 */
export function listFiles(folder, name) {
  const base = join(root, folder);
  if (!statSync(base, { throwIfNoEntry: false })?.isDirectory()) return [];
  return readdirSync(base, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && name.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length).replaceAll('\\', '/'))
    .filter((path) => !path.includes('node_modules/'))
    .sort();
}

export function readSource(/** @type {string} */ path) {
  return readFileSync(join(root, path), 'utf8');
}
