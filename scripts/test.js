/**
 * `npm test`: runs every test ring, after bringing what the rings need.
 *
 *   npm test                       all rings
 *   npm test -- kv                 only files whose path contains "kv"
 *   npm test -- --project unit     one ring (see test/setup/rings.ts); any option of `vitest run` works
 *
 * Missing: a WebGPU adapter or a Chromium. On Debian and Ubuntu, as root, scripts/setup-test.sh installs them;
 * elsewhere this stops with the command to run. Skipped tests are listed with their reasons; a skip without a
 * reason fails, and so does a ring that ran no test. The last line is "N passed, N failed".
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { ensureBuilt, root } from './lib/freshness.js';
import { judge } from './lib/testSummary.js';

/** @typedef {import('../test/setup/reporter.ts').TestSummary} TestSummary */

const ringNames = ['unit', 'device', 'model', 'browser', 'e2e'];
const ringsWithAdapter = ['device', 'model', 'e2e'];
const ringsWithChromium = ['browser'];
const setupScript = join(root, 'scripts', 'setup-test.sh');
const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs');
const args = process.argv.slice(2);

/** A stop that needs no stack: the message is the remedy. */
class Stop extends Error {}

/** The rings that these arguments let run, as far as `--project` tells. */
function chosenRings() {
  const chosen = args.flatMap((arg, i) => {
    if (arg.startsWith('--project=')) return [arg.slice('--project='.length)];
    return arg === '--project' ? args.slice(i + 1, i + 2) : [];
  });
  return chosen.length && chosen.every((name) => ringNames.includes(name)) ? chosen : ringNames;
}

function systemIds() {
  const file = '/etc/os-release';
  const text = existsSync(file) ? readFileSync(file, 'utf8') : '';
  return [...text.matchAll(/^ID(?:_LIKE)?="?([^"\n]*)"?$/gm)].flatMap((match) => match[1].split(' '));
}

/** What to type to get the missing parts ("vulkan", "chromium") where this script cannot install them. */
function remedy(/** @type {string[]} */ missing) {
  const debian = systemIds().some((id) => id === 'debian' || id === 'ubuntu');
  if (debian) return `sudo sh scripts/setup-test.sh ${missing.join(' ')}`;
  const steps = {
    vulkan:
      'install a Vulkan loader and Mesa 23+ lavapipe (vulkan-loader and mesa-vulkan-drivers or vulkan-swrast)',
    chromium: 'npx playwright-core install --with-deps chromium',
  };
  return missing.map((part) => steps[/** @type {keyof typeof steps} */ (part)]).join(' && ');
}

function install(/** @type {string[]} */ missing) {
  const what = { vulkan: 'a WebGPU adapter (Vulkan driver)', chromium: 'a Chromium' };
  const names = missing.map((part) => what[/** @type {keyof typeof what} */ (part)]).join(' and ');
  const isRoot = process.getuid?.() === 0;
  const debian = systemIds().some((id) => id === 'debian' || id === 'ubuntu');
  if (!isRoot || !debian) throw new Stop(`the tests need ${names}; run: ${remedy(missing)}`);
  console.log(`The tests need ${names}; installing with scripts/setup-test.sh ${missing.join(' ')}`);
  const { status } = spawnSync('sh', [setupScript, ...missing], { stdio: 'inherit' });
  if (status !== 0) throw new Stop(`scripts/setup-test.sh failed (exit ${status}, its messages are above)`);
}

/**
 * Makes sure of what the rings need.
 * @returns {Promise<Record<string, string>>} environment variables that make Dawn find its adapter
 */
async function bringNeeds(/** @type {string[]} */ rings) {
  if (!existsSync(vitest)) throw new Stop('the test tools are not installed; run: npm ci');
  const { findAdapter, findChromium } = await import('./lib/needs.js');
  const wantsAdapter = rings.some((ring) => ringsWithAdapter.includes(ring));
  const wantsChromium = rings.some((ring) => ringsWithChromium.includes(ring));
  let adapter = wantsAdapter ? findAdapter() : undefined;
  let chromium = wantsChromium ? await findChromium() : undefined;
  const missing = [];
  if (wantsAdapter && !adapter) missing.push('vulkan');
  if (wantsChromium && !chromium) missing.push('chromium');
  if (missing.length) {
    install(missing);
    adapter = wantsAdapter ? findAdapter() : undefined;
    chromium = wantsChromium ? await findChromium() : undefined;
    if (wantsAdapter && !adapter)
      throw new Stop('Dawn finds no WebGPU adapter although a driver is installed: try vulkaninfo --summary');
    if (wantsChromium && !chromium) throw new Stop('Chromium is installed but not found on PATH');
  }
  if (adapter) console.log(`WebGPU adapter: ${adapter.description}`);
  if (chromium) console.log(`Chromium: ${chromium}`);
  return adapter?.env ?? {};
}

/** Runs vitest with our reporter beside its own; undefined when it ended before the summary was written. */
async function runVitest(/** @type {Record<string, string>} */ env) {
  const folder = join(root, '.cache');
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `test-summary-${process.pid}.json`);
  const reporters = ['--reporter=default', `--reporter=${join(root, 'test/setup/reporter.ts')}`];
  const child = spawn(process.execPath, [vitest, 'run', ...reporters, ...args], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, ...env, NANOFLOW_TEST_SUMMARY: file },
  });
  for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM']))
    process.on(signal, () => child.kill(signal));
  const code = await new Promise((resolve) => child.once('exit', resolve));
  /** @type {TestSummary | undefined} */
  let summary;
  if (existsSync(file)) summary = JSON.parse(readFileSync(file, 'utf8'));
  rmSync(file, { force: true });
  return { code, summary };
}

async function main() {
  const env = await bringNeeds(chosenRings());
  await ensureBuilt().catch((error) => {
    throw new Stop(error.message);
  });
  const { code, summary } = await runVitest(env);
  // With a filter, a ring may rightly have nothing to run.
  const { report, passed, failed } = judge(summary, code, args.length ? [] : ringNames);
  console.log(['', ...report].join('\n'));
  console.log(`${passed} passed, ${failed} failed`);
  process.exitCode = failed ? 1 : 0;
}

main().catch((error) => {
  console.error(`npm test: ${error instanceof Stop ? error.message : error.stack}`);
  console.log('0 passed, 1 failed');
  process.exitCode = 1;
});
