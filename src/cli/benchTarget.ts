/** What a bench runs and where: --model, --device and --gpu, the same for every bench. */
import { Option, type Command } from 'commander';
import { CliError } from './values.ts';

export type BenchDevice = 'auto' | 'cuda' | 'webgpu' | 'cpu' | 'sim';

export interface TargetFlags {
  device: BenchDevice;
  gpu?: string;
}

export function deviceOption(devices: readonly BenchDevice[]): Option {
  return new Option('--device <kind>', 'where to compute').choices([...devices]).default('auto');
}

/** For benches that the simulator can run: --gpu names what it simulates. */
export function addGpuOption(command: Command): Command {
  return command.option(
    '--gpu <preset>',
    'GPU to simulate (implies --device sim): a100-80, h100, ...; x<count> for several of a host (a100-80x8)',
  );
}

export function addShapeOption(command: Command, fallback?: string): Command {
  return command.option(
    '--model <shape>',
    'published shape, with random weights on real devices and none on sim: llama-3-8b, llama-2-70b, ...',
    fallback,
  );
}

/** The preset that the simulator has when none is named: the paper's machine. */
export const DEFAULT_GPU = 'a100-80x8';

/** @throws CliError when --gpu and --device contradict each other */
export function resolveTarget({ device, gpu }: TargetFlags): { device: BenchDevice; gpu?: string } {
  if (gpu !== undefined && device !== 'auto' && device !== 'sim')
    throw new CliError(
      `--gpu ${gpu} names a simulated GPU, but --device is ${device}: leave one of them out`,
    );
  if (gpu === undefined && device !== 'sim') return { device };
  return { device: 'sim', gpu: gpu ?? DEFAULT_GPU };
}
