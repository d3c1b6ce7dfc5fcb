/**
 * What the test rings need of the machine: a WebGPU adapter that Dawn accepts, and a Chromium.
 * Only looks; installing is scripts/setup-test.sh.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const probe = fileURLToPath(new URL('./probe-adapter.js', import.meta.url));

/**
 * Asks Dawn for an adapter in a process of its own (a bad driver may abort it).
 * @param {Record<string, string>} env - added to this process's environment
 * @returns {string | undefined} the adapter's description, or undefined when there is none
 */
function adapterWith(env) {
  const result = spawnSync(process.execPath, [probe], {
    env: { ...process.env, ...env },
    encoding: 'utf8',
    timeout: 30_000,
  });
  return result.status === 0 ? result.stdout.trim() : undefined;
}

/** Driver files of lavapipe, where Linux distributions put them. */
function lavapipeFiles() {
  return ['/usr/share/vulkan/icd.d', '/etc/vulkan/icd.d', '/usr/local/share/vulkan/icd.d']
    .filter((folder) => existsSync(folder))
    .flatMap((folder) => readdirSync(folder).map((name) => join(folder, name)))
    .filter((file) => /lvp_icd.*\.json$/.test(file));
}

/**
 * Finds how to get an adapter: by itself when the loader finds one (a real GPU, or lavapipe), else by naming
 * lavapipe alone, which helps when another installed driver breaks the loader.
 * @returns {{ description: string, env: Record<string, string> } | undefined} undefined: no adapter at all
 */
export function findAdapter() {
  const files = process.platform === 'linux' ? lavapipeFiles() : [];
  // Two spellings: loaders before 1.3.207 know only the second.
  for (const env of [{}, ...files.map((file) => ({ VK_DRIVER_FILES: file, VK_ICD_FILENAMES: file }))]) {
    const description = adapterWith(env);
    if (description !== undefined) return { description, env };
  }
  return undefined;
}

const chromiumNames = ['chromium', 'google-chrome', 'google-chrome-stable', 'chrome', 'microsoft-edge'];
const chromiumApps = [
  '/Applications/Chromium.app/Contents/MacOS/Chromium',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
  'C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe',
  'C:\\Program Files (x86)\\Microsoft\\Edge\\Application\\msedge.exe',
];

/**
 * Path of a Chromium: on PATH, in the usual places, or the one that Playwright downloaded.
 * @returns {Promise<string | undefined>}
 */
export async function findChromium() {
  const folders = (process.env.PATH ?? '').split(delimiter);
  const onPath = chromiumNames.flatMap((name) => folders.map((folder) => join(folder, name)));
  const found = [...onPath, ...chromiumApps].find((path) => existsSync(path));
  if (found) return found;
  const { chromium } = await import('playwright-core');
  const downloaded = chromium.executablePath();
  return existsSync(downloaded) ? downloaded : undefined;
}
