/**
 * The CUDA kernels as nvcc sees them. By default a sample; NANOFLOW_CUDA_COMPILE=all compiles every prebuilt module of
 * both families (the addon's build does that too), for each architecture that the family is shipped for.
 */
import { execFile, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { CUDA_KERNELS } from '../../src/engine/device/cuda/kernels/index.ts';
import type { CudaModule } from '../../src/engine/device/cuda/launch.ts';
import { kernelSources, macros, moduleName } from '../../src/engine/device/cuda/modules.ts';

const FOLDER = join('native-cuda', 'kernels');
const ALL = process.env.NANOFLOW_CUDA_COMPILE === 'all';
const FAMILIES = [
  { family: 'hopper', architectures: ['sm_90a'] },
  { family: 'portable', architectures: ALL ? ['sm_80', 'sm_86', 'sm_89'] : ['sm_80'] },
] as const;
/** Sources of the sample: they include most of lib/ and compile in about a second each. */
const SAMPLE = ['rms_norm', 'sample_chunk'];

function findNvcc(): string | undefined {
  const candidates = [
    ...(process.env.CUDA_HOME ? [join(process.env.CUDA_HOME, 'bin', 'nvcc')] : []),
    'nvcc',
    '/usr/local/cuda/bin/nvcc',
  ];
  return candidates.find((path) => spawnSync(path, ['--version']).status === 0);
}

function modulesOf(family: 'hopper' | 'portable'): CudaModule[] {
  const modules = Object.values(CUDA_KERNELS).flatMap((kernel) => [...kernel.prebuilt(family)]);
  return [...new Map(modules.map((module) => [moduleName(module), module])).values()];
}

/** The builds that record work items, of those modules that have one. */
function profiled(modules: readonly CudaModule[]): CudaModule[] {
  const sources = kernelSources(FOLDER);
  return modules
    .filter(({ source }) => sources.source(source).includes('#if PROFILE'))
    .map(({ source, defines }) => ({ source, defines: { ...defines, PROFILE: true } }));
}

/** Compiler's messages, or nothing. */
async function compile(nvcc: string, module: CudaModule, architecture: string): Promise<string> {
  const compute = architecture.replace('sm', 'compute');
  const args = [
    ...[`-gencode=arch=${compute},code=${architecture}`, '-cubin', '-std=c++17', '-Werror', 'all-warnings'],
    ...[`-I${FOLDER}`, ...macros(module.defines), '-o', '/dev/null', join(FOLDER, `${module.source}.cu`)],
  ];
  try {
    await promisify(execFile)(nvcc, args);
    return '';
  } catch (error) {
    return `${moduleName(module)} for ${architecture}: ${(error as Error).message}`;
  }
}

describe('CUDA kernels', () => {
  it('have a source with an entry of the same name for every prebuilt module', () => {
    const sources = kernelSources(FOLDER);
    for (const { family } of FAMILIES) {
      for (const { source } of modulesOf(family)) {
        expect(existsSync(join(FOLDER, `${source}.cu`)), source).toBe(true);
        expect(sources.source(source), source).toMatch(new RegExp(`extern "C"[^;{]*\\b${source}\\(`));
      }
    }
  });

  it.for(FAMILIES)(
    'compile without warnings: $family',
    { timeout: ALL ? 3_600_000 : 60_000 },
    async ({ family, architectures }, context) => {
      const nvcc = findNvcc();
      if (!nvcc) return context.skip('nvcc is not installed');
      const all = modulesOf(family);
      const sample = SAMPLE.flatMap((name) => all.find(({ source }) => source === name) ?? []);
      const jobs = (ALL ? [...all, ...profiled(all)] : [...sample, ...profiled(all).slice(0, 1)]).flatMap(
        (module) => architectures.map((architecture) => ({ module, architecture })),
      );
      const problems: string[] = [];
      let next = 0;
      const worker = async (): Promise<void> => {
        while (next < jobs.length) {
          const { module, architecture } = jobs[next++];
          const problem = await compile(nvcc, module, architecture);
          if (problem) problems.push(problem);
        }
      };
      await Promise.all(Array.from({ length: availableParallelism() }, worker));
      expect(problems).toEqual([]);
    },
  );
});
