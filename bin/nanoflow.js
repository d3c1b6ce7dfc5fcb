#!/usr/bin/env node
// Entry of the `nanoflow` command. Installed from a package, it runs the bundle in dist/. In a clone (src/ is
// there) it first brings dist/ up to date. Plain JavaScript that an old Node can still parse, so that it can say
// what is wrong.
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const here = (/** @type {string} */ path) => new URL(path, import.meta.url);

function isOldNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  return major < 20 || (major === 20 && minor < 19);
}

function fail(/** @type {string} */ message) {
  process.stderr.write(`nanoflow: ${message}\n`);
  process.exit(1);
}

async function main() {
  if (isOldNode())
    fail(`this is Node ${process.versions.node}, but 20.19 or later is needed: https://nodejs.org`);
  const inClone = existsSync(here('../src'));
  if (inClone) {
    const { ensureBuilt } = await import('../scripts/lib/freshness.js');
    await ensureBuilt();
  }
  const command = here('../dist/node/cli.js');
  if (!existsSync(command)) {
    const remedy = inClone ? 'run npm ci' : 'reinstall the package';
    fail(`${fileURLToPath(command)} is missing: ${remedy}`);
  }
  await import(command.href);
}

main().catch((error) => {
  // A failed build has said why; anything else is a defect, and its stack helps.
  const known = String(error?.message).startsWith('the build failed');
  fail(known ? error.message : String(error?.stack ?? error));
});
