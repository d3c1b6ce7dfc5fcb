/**
 * Runs bench/kernels in a clone. The cases are TypeScript outside of the bundle (they drive the engine's devices, which
 * the command does not know), so Vite loads them from source; an installed package has neither.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../worker/node/client.ts';
import { CliError } from './values.ts';

export interface KernelBench {
  device: { kind: string; name: string };
  rows: object[];
}

/** What bench/kernels/index.ts exports. */
interface KernelBenchModule {
  runKernelBench(options: {
    device: 'auto' | 'webgpu' | 'cpu';
    filter?: string;
    print: (line: string) => void;
  }): Promise<KernelBench>;
}

/** Prints a line per case. @throws CliError outside of a clone */
export async function benchKernels(
  options: { device: 'auto' | 'webgpu' | 'cpu'; filter?: string },
  print: (line: string) => void,
): Promise<KernelBench> {
  const root = packageRoot();
  const file = join(root, 'bench', 'kernels', 'index.ts');
  if (!existsSync(file))
    throw new CliError(`${file} is missing: kernels are measured in a clone of the repository`);
  const { runnerImport } = await import('vite').catch(() => {
    throw new CliError('the development packages are missing: run npm ci');
  });
  const { module } = await runnerImport<KernelBenchModule>(file, {
    root,
    configFile: false,
    logLevel: 'warn',
  });
  return module.runKernelBench({ ...options, print });
}
