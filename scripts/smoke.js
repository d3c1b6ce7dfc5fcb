/**
 * Starts the server as a user does and asks it for a page, its health and a completion.
 *
 *   node scripts/smoke.js             the clone's command, on a free port
 *   node scripts/smoke.js --packed    the same from `npm pack`, installed in an empty folder
 *   node scripts/smoke.js --url URL [--wait SECONDS]   a server that runs, or will within so many seconds
 */
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { root } from './lib/freshness.js';

const answersWithin = 60_000; // ms, of each request

/** The value after an option on the command line. */
function option(/** @type {string} */ name) {
  const at = process.argv.indexOf(name);
  return at < 0 ? undefined : process.argv[at + 1];
}

const readyWithin = Number(option('--wait') ?? 120) * 1000; // ms

/** @returns {Promise<number>} */
function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address ? address.port : 0));
    });
  });
}

/** Packs the project and installs it, without development packages, into a folder; returns the command's path. */
function installPacked(/** @type {string} */ folder) {
  const run = (/** @type {string[]} */ args, /** @type {string} */ cwd) =>
    execFileSync('npm', args, { cwd, stdio: ['ignore', 'ignore', 'inherit'] });
  run(['pack', '--silent', '--pack-destination', folder], root);
  const tarball = readdirSync(folder).find((name) => name.endsWith('.tgz'));
  writeFileSync(join(folder, 'package.json'), '{ "private": true }');
  run(['install', '--silent', '--prefer-offline', `./${tarball}`], folder);
  return join(folder, 'node_modules', '.bin', 'nanoflow');
}

/** Waits until the server answers /ready with 200. */
async function untilReady(/** @type {string} */ url, /** @type {() => boolean} */ ended) {
  const start = performance.now();
  for (;;) {
    if (ended()) throw new Error('the server ended before it was ready (its messages are above)');
    const ready = await fetch(`${url}/ready`).catch(() => undefined);
    if (ready?.ok) return performance.now() - start;
    if (performance.now() - start > readyWithin)
      throw new Error(`${url}/ready not 200 within ${readyWithin / 1000} s`);
    await sleep(100);
  }
}

async function get(/** @type {string} */ url, /** @type {RequestInit} */ options = {}) {
  const response = await fetch(url, { signal: AbortSignal.timeout(answersWithin), ...options });
  const body = await response.text();
  if (!response.ok)
    throw new Error(`${url} answered ${response.status}, expected 200: ${body.slice(0, 500)}`);
  return body;
}

/** Asks the running server for each thing once. */
async function ask(/** @type {string} */ url) {
  await get(`${url}/health`);
  const models = JSON.parse(await get(`${url}/v1/models`));
  const model = models.data?.[0]?.id;
  if (!model) throw new Error(`${url}/v1/models lists no model: ${JSON.stringify(models)}`);
  const page = await get(`${url}/`);
  const script = /<script[^>]*src="([^"]+)"/.exec(page)?.[1];
  if (!script) throw new Error(`the page at ${url}/ names no script: ${page.slice(0, 200)}`);
  await get(new URL(script, `${url}/`).href);
  const body = JSON.stringify({ model, prompt: 'What is a batch?', max_tokens: 16, temperature: 0 });
  const headers = { 'content-type': 'application/json' };
  const completion = JSON.parse(await get(`${url}/v1/completions`, { method: 'POST', headers, body }));
  const text = completion.choices?.[0]?.text;
  if (typeof text !== 'string' || text.trim() === '') {
    throw new Error(`the completion has no text: ${JSON.stringify(completion)}`);
  }
  console.log(`smoke: ${model} answers ${JSON.stringify(text)}`);
}

async function serveAndAsk(/** @type {string} */ command, /** @type {string} */ cwd) {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const server = spawn(process.execPath, [command, 'serve', '--port', String(port)], {
    cwd,
    stdio: 'inherit',
  });
  const exit = new Promise((resolve) => server.once('exit', resolve));
  let ended = false;
  void exit.then(() => (ended = true));
  try {
    const ms = await untilReady(url, () => ended);
    console.log(`smoke: ready after ${(ms / 1000).toFixed(1)} s`);
    await ask(url);
  } finally {
    server.kill('SIGTERM');
    const killer = setTimeout(() => server.kill('SIGKILL'), 10_000);
    await exit;
    clearTimeout(killer);
  }
}

async function main() {
  const url = option('--url')?.replace(/\/$/, '');
  if (url) {
    await untilReady(url, () => false);
    return ask(url);
  }
  if (!process.argv.includes('--packed')) return serveAndAsk(join(root, 'bin', 'nanoflow.js'), root);
  const folder = mkdtempSync(join(tmpdir(), 'nanoflow-packed-'));
  try {
    await serveAndAsk(installPacked(folder), folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

main().catch((error) => {
  console.error(`smoke: ${error.message}`);
  process.exitCode = 1;
});
