/**
 * `npm run check`: types, lint with zero warnings, format, import direction and cycles, kernel names, file sizes.
 * Runs all of them and reports each; the last line is "N passed, N failed".
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root } from './lib/freshness.js';
import { kernelGaps, registeredKernels } from './lib/kernelRooms.js';
import { checkImports } from './lib/imports.js';
import { listFiles, readSource } from './lib/sourceFiles.js';

const longFile = 400; // lines

/** Runs an installed tool; returns its output when it fails. */
function tool(/** @type {string} */ script, /** @type {string[]} */ ...args) {
  const { status, stdout, stderr, error } = spawnSync(
    process.execPath,
    [join(root, 'node_modules', script), ...args],
    {
      cwd: root,
      encoding: 'utf8',
      maxBuffer: 1 << 26,
    },
  );
  if (error) return [error.message];
  return status === 0 ? [] : [(stdout + stderr).trim() || `${script} failed with exit ${status}`];
}

function sources() {
  const paths = [...listFiles('src', /\.ts$/), ...listFiles('test', /\.ts$/), ...listFiles('bench', /\.ts$/)];
  return new Map(paths.map((path) => [path, readSource(path)]));
}

function kernels() {
  const files = [
    ...listFiles('shaders', /\.wgsl$/),
    ...listFiles('native-cuda/kernels', /\.cu$/),
    ...listFiles('src/engine/kernels', /\.ts$/),
    ...listFiles('src/engine/device/cuda/kernels', /\.ts$/),
    ...listFiles('test/device', /\.ts$/),
  ];
  const registered = registeredKernels(readSource('src/engine/kernels/index.ts'));
  const names = registered.filter((name) => name !== 'definition');
  return names.length
    ? kernelGaps(names, new Set(files))
    : ['src/engine/kernels/index.ts registers no kernel'];
}

/** Files over the limit need a comment at their top that says why they are one file: `// justify: ...`. */
function sizes() {
  const code = /\.(ts|js|wgsl|cu|cuh|cc|h|sh|py)$/;
  const paths = ['src', 'shaders', 'native-cuda', 'test', 'bench', 'scripts', 'bin', 'models'].flatMap(
    (folder) => listFiles(folder, code),
  );
  const lines = paths.map((path) => ({ path, text: readSource(path) }));
  const counts = lines.map(({ text }) => text.split('\n').length - 1).sort((a, b) => a - b);
  const at = (/** @type {number} */ share) =>
    counts[Math.min(counts.length - 1, Math.floor(counts.length * share))];
  const total = counts.reduce((sum, count) => sum + count, 0);
  console.log(
    `       ${counts.length} files, ${total} lines; median ${at(0.5)}, p90 ${at(0.9)}, longest ${at(1)}`,
  );
  return lines.flatMap(({ path, text }) => {
    const all = text.split('\n');
    const justified = all.slice(0, 20).some((line) => /\bjustify:\s+\S/.test(line));
    if (all.length - 1 <= longFile || justified) return [];
    return [`${path}: ${all.length - 1} lines; split it, or say at its top why not (// justify: ...)`];
  });
}

/** @type {[string, () => string[]][]} name, and what it finds wrong */
const checks = [
  ['types', () => tool('typescript/bin/tsc', '-p', '.', '--noEmit')],
  ['lint', () => tool('oxlint/bin/oxlint', '--deny-warnings')],
  [
    'format',
    () =>
      tool(
        'prettier/bin/prettier.cjs',
        '--check',
        '--cache',
        '--cache-location',
        '.cache/prettier',
        '--log-level',
        'warn',
        '.',
      ),
  ],
  ['imports', () => checkImports(sources())],
  ['kernels', kernels],
  ['sizes', sizes],
];

let failed = 0;
for (const [name, check] of checks) {
  const start = performance.now();
  const problems = check();
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  console.log(`${problems.length ? 'FAIL' : 'ok  '}   ${name} (${seconds} s)`);
  for (const problem of problems) console.log(problem);
  if (problems.length) failed++;
}
console.log(`${checks.length - failed} passed, ${failed} failed`);
process.exitCode = failed ? 1 : 0;
