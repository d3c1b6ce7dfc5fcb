/**
 * Builds the CUDA addon, native-cuda/build/nanoflow_cuda.node: kernels by nvcc into one archive, then the addon around
 * it by cmake-js. Needs nvcc (CUDA 12.4 or newer), cmake and a C++ compiler; running the addon needs the driver only.
 *
 *   npm run build:cuda                        kernels for compute capability 9.0 (sm_90a)
 *   npm run build:cuda -- --release           and the portable family for every other architecture, with PTX
 *   npm run build:cuda -- --kernels-only      compiles the kernels and stops
 *   npm run cuda:aot -- --head-dim 96 --group 6 --page-size 8
 *                                             adds specialisations to the prebuilt set (kept in .cache/cuda/aot.json)
 */
import { spawn, spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createHash } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { pathToFileURL } from 'node:url';
import { build } from 'vite';
import { root } from './lib/freshness.js';

const native = join(root, 'native-cuda');
const cache = join(root, '.cache', 'cuda');
const portableArchitectures = [80, 86, 89, 100, 120];

const { values: options } = parseArgs({
  options: {
    release: { type: 'boolean', default: false },
    'kernels-only': { type: 'boolean', default: false },
    'head-dim': { type: 'string', multiple: true, default: [] },
    group: { type: 'string', multiple: true, default: [] },
    'page-size': { type: 'string', multiple: true, default: [] },
  },
});

/** @typedef {import('../src/engine/device/cuda/prebuild.ts').PrebuildItem} Item */

/** Where nvcc is: CUDA_HOME, the PATH, or the usual folder. */
function findNvcc() {
  const candidates = [
    process.env.CUDA_HOME && join(process.env.CUDA_HOME, 'bin', 'nvcc'),
    'nvcc',
    '/usr/local/cuda/bin/nvcc',
  ];
  for (const candidate of candidates) {
    if (!candidate) continue;
    const { status, stdout } = spawnSync(candidate, ['--version'], { encoding: 'utf8' });
    if (status === 0) return { nvcc: candidate, version: /release ([\d.]+)/.exec(stdout)?.[1] ?? '?' };
  }
  throw new Error('nvcc was not found; install the CUDA toolkit or set CUDA_HOME');
}

/** The folder that holds cuda.h, as nvcc itself would tell. */
function includeFolder(/** @type {string} */ nvcc) {
  const { stderr } = spawnSync(nvcc, ['-dryrun', '-c', 'x.cu'], { encoding: 'utf8' });
  const top = /TOP=(\S+)/.exec(stderr)?.[1];
  const folders = [top && join(top, 'include'), '/usr/local/cuda/include', '/usr/include'];
  const found = folders.find((folder) => folder && existsSync(join(folder, 'cuda.h')));
  if (!found)
    throw new Error('cuda.h was not found beside nvcc; install the CUDA headers (package cuda-driver-dev)');
  return found;
}

/** The TypeScript that knows which kernels there are, as a module that Node can load. */
async function prebuildModule() {
  const outDir = join(cache, 'prebuild');
  await build({
    root,
    configFile: false,
    logLevel: 'warn',
    publicDir: false,
    build: {
      ssr: 'src/engine/device/cuda/prebuild.ts',
      target: 'node20',
      outDir,
      emptyOutDir: true,
      minify: false,
      rolldownOptions: { output: { entryFileNames: 'prebuild.mjs', codeSplitting: false } },
    },
  });
  return /** @type {Promise<typeof import('../src/engine/device/cuda/prebuild.ts')>} */ (
    import(pathToFileURL(join(outDir, 'prebuild.mjs')).href)
  );
}

const shapesFile = join(cache, 'aot.json');

/** Shapes of earlier cuda:aot runs and of this one. */
function aotShapes() {
  /** @type {Record<'headDims' | 'groups' | 'pageSizes', number[]>} */
  const kept = existsSync(shapesFile)
    ? JSON.parse(readFileSync(shapesFile, 'utf8'))
    : { headDims: [], groups: [], pageSizes: [] };
  const numbers = (/** @type {string} */ name, /** @type {string[]} */ texts) =>
    texts.map((text) => {
      const value = Number(text);
      if (!Number.isInteger(value) || value < 1)
        throw new Error(`--${name} is ${text}; expected a whole number from 1 up`);
      return value;
    });
  return {
    headDims: [...new Set([...kept.headDims, ...numbers('head-dim', options['head-dim'])])],
    groups: [...new Set([...kept.groups, ...numbers('group', options.group)])],
    pageSizes: [...new Set([...kept.pageSizes, ...numbers('page-size', options['page-size'])])],
  };
}

/** Runs nvcc; resolves with what it printed, rejects when it fails. */
function run(/** @type {string} */ command, /** @type {string[]} */ args) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let text = '';
    child.stdout.on('data', (data) => (text += data));
    child.stderr.on('data', (data) => (text += data));
    child.on('error', reject);
    child.on('close', (code) =>
      code === 0 ? resolve(text) : reject(new Error(`${command} ${args.join(' ')}\n${text}`)),
    );
  });
}

/**
 * Compiles one kernel, or takes it from the cache.
 * @param {Item} item
 */
async function compile(
  /** @type {string} */ nvcc,
  /** @type {string} */ version,
  item,
  /** @type {string[]} */ targets,
) {
  const key = createHash('sha256')
    .update(JSON.stringify([item, targets, version]))
    .digest('hex')
    .slice(0, 24);
  const file = join(cache, 'images', `${item.source}-${key}`);
  if (existsSync(file)) return { image: readFileSync(file), seconds: 0 };
  const started = performance.now();
  mkdirSync(dirname(file), { recursive: true });
  const partial = `${file}.${process.pid}`;
  await run(nvcc, [
    '-fatbin',
    '-std=c++17',
    '-O3',
    ...targets.flatMap((target) => ['-gencode', target]),
    `-I${join(native, 'kernels')}`,
    ...item.macros,
    '-o',
    partial,
    join(native, 'kernels', `${item.source}.cu`),
  ]);
  renameSync(partial, file);
  return { image: readFileSync(file), seconds: (performance.now() - started) / 1000 };
}

async function main() {
  const { nvcc, version } = findNvcc();
  mkdirSync(cache, { recursive: true });
  const { prebuildItems, writeArchive } = await prebuildModule();
  const shapes = aotShapes();
  const kernels = join(native, 'kernels');
  const portable = portableArchitectures.map((arch) => `arch=compute_${arch},code=sm_${arch}`);
  const jobs = [
    ...prebuildItems('hopper', kernels, shapes).map((item) => ({
      item,
      targets: ['arch=compute_90a,code=sm_90a'],
      computeCapability: 90,
      exact: true,
    })),
    ...(options.release ? prebuildItems('portable', kernels, shapes) : []).map((item) => ({
      item,
      targets: [...portable, 'arch=compute_80,code=compute_80'],
      computeCapability: 80,
      exact: false,
    })),
  ];
  writeFileSync(shapesFile, JSON.stringify(shapes)); // no kernel refused them
  const started = performance.now();
  console.log(`nvcc ${version}: ${jobs.length} kernels`);
  /** @type {import('../src/engine/device/cuda/prebuild.ts').PrebuiltImage[]} */
  const images = [];
  let next = 0;
  let finished = 0;
  let compiled = 0;
  const worker = async () => {
    while (next < jobs.length) {
      const at = next++;
      const { item, targets, computeCapability, exact } = jobs[at];
      const { image, seconds } = await compile(nvcc, version, item, targets);
      images[at] = { name: item.name, hash: item.hash, computeCapability, exact, image };
      finished++;
      if (seconds > 0) {
        compiled++;
        console.log(
          `  ${String(finished).padStart(3)} of ${jobs.length}  ${seconds.toFixed(1).padStart(5)} s  ${item.name}`,
        );
      }
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  const archive = join(cache, 'prebuilt.bin');
  const bytes = writeArchive(images);
  writeFileSync(archive, bytes);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(
    `kernels: ${jobs.length}, of them ${compiled} compiled now, ${(bytes.length / 1e6).toFixed(1)} MB, ${seconds} s`,
  );
  if (options['kernels-only']) return;
  buildAddon(includeFolder(nvcc), archive);
}

function buildAddon(/** @type {string} */ cudaInclude, /** @type {string} */ archive) {
  const work = join(cache, 'addon');
  const result = spawnSync(
    process.execPath,
    [
      join(root, 'node_modules', 'cmake-js', 'bin', 'cmake-js'),
      'compile',
      '--directory',
      native,
      '--out',
      work,
      `--CDCUDA_INCLUDE=${cudaInclude}`,
      `--CDNAPI_INCLUDE=${join(root, 'node_modules', 'node-addon-api')}`,
      `--CDPREBUILT=${archive}`,
    ],
    { cwd: root, encoding: 'utf8' },
  );
  if (result.status !== 0) throw new Error(`cmake-js failed:\n${result.stdout}${result.stderr}`);
  const built = join(work, 'Release', 'nanoflow_cuda.node');
  const target = join(native, 'build', 'nanoflow_cuda.node');
  mkdirSync(dirname(target), { recursive: true });
  rmSync(target, { force: true });
  copyFileSync(built, target);
  console.log('built native-cuda/build/nanoflow_cuda.node');
}

try {
  await main();
} catch (error) {
  console.error(`build:cuda: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}
