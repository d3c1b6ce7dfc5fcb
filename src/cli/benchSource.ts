/**
 * Runs what is in bench/ of a clone. The cases are TypeScript outside of the bundle (they drive the engine's devices,
 * which the command does not know), so Vite loads them from source; an installed package has neither.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../worker/node/client.ts';
import type { BenchDevice } from './benchTarget.ts';
import { CliError } from './values.ts';

export interface BenchResult {
  device: { kind: string; name: string };
  rows: object[];
}

interface Common {
  print: (line: string) => void;
  /** Where to save a trace. */
  trace?: string;
}

/** What bench/kernels/index.ts exports. */
export interface KernelBenchModule {
  runKernelBench(options: Common & { device: BenchDevice; filter?: string }): Promise<BenchResult>;
}

/** What bench/serving/index.ts exports. */
export interface DecodeBenchModule {
  runDecodeBench(
    options: Common & {
      device: BenchDevice;
      shape: string;
      streams: number[];
      promptTokens: number;
      outputTokens: number;
      runs: number;
      storage?: 'auto' | 'f32' | 'f16' | 'bf16';
    },
  ): Promise<BenchResult & { profile: object[] }>;
}

/** @throws CliError outside of a clone, or without the development packages */
export async function loadBench<Module>(path: string): Promise<Module> {
  const root = packageRoot();
  const file = join(root, 'bench', path);
  if (!existsSync(file))
    throw new CliError(`${file} is missing: this is measured in a clone of the repository`);
  const { runnerImport } = await import('vite').catch(() => {
    throw new CliError('the development packages are missing: run npm ci');
  });
  const { module } = await runnerImport<Module>(file, { root, configFile: false, logLevel: 'warn' });
  return module;
}

/** Runs a bench; what is wrong use there (BenchError) is one line for the user here. */
export async function runBench<Result>(run: () => Promise<Result>): Promise<Result> {
  try {
    return await run();
  } catch (error) {
    if ((error as Error)?.name === 'BenchError') throw new CliError((error as Error).message);
    throw error;
  }
}
