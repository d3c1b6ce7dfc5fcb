/** `nanoflow bench kernels` and `bench decode`: the engine's kernels, and the engine alone with random weights. */
import { Command, Option } from 'commander';
import { addRecordOptions, type RecordFlags, saveRecord } from './benchRecord.ts';
import { type DecodeBenchModule, type KernelBenchModule, loadBench, runBench } from './benchSource.ts';
import { addShapeOption, type BenchDevice, deviceOption } from './benchTarget.ts';
import { integer, integers } from './values.ts';

const REAL = ['auto', 'cuda', 'webgpu', 'cpu'] as const;

export const line = (text: string): void => void process.stdout.write(`${text}\n`);

interface SourceFlags extends RecordFlags {
  device: BenchDevice;
}

export function kernelsCommand(): Command {
  const command = new Command('kernels')
    .description(
      'time, bandwidth and arithmetic of each kernel (needs a clone: the cases are in bench/kernels)',
    )
    .addOption(deviceOption(REAL))
    .option('--filter <text>', 'only cases with this in their name');
  return addRecordOptions(command).action(async (flags: SourceFlags & { filter?: string }) => {
    const { runKernelBench } = await loadBench<KernelBenchModule>('kernels/index.ts');
    const { device, rows } = await runBench(() => runKernelBench({ ...flags, print: line }));
    await saveRecord(flags, 'kernels', device, { unit: 'microseconds: median of one run of the case', rows });
  });
}

export function decodeCommand(): Command {
  const positive = integer(1);
  const command = new Command('decode')
    .description(
      'a published shape with random weights through the engine alone: tokens per second, and a profile of one step ' +
        '(needs a clone: bench/serving)',
    )
    .addOption(deviceOption(REAL));
  addShapeOption(command, 'llama-3.2-1b')
    .option('--streams <list>', 'requests at the same time', integers(1, 4096), [1])
    .option('--prompt-tokens <n>', 'length of the prompts', positive, 128)
    .option('--output-tokens <n>', 'tokens of each answer', integer(2), 256)
    .option('--runs <n>', 'measured runs; figures are medians', integer(1, 1000), 3)
    .addOption(new Option('--storage <type>').choices(['auto', 'f32', 'f16', 'bf16']).default('auto'));
  type Options = Omit<Parameters<DecodeBenchModule['runDecodeBench']>[0], 'print' | 'shape'>;
  return addRecordOptions(command).action(async (flags: RecordFlags & Options & { model: string }) => {
    const { runDecodeBench } = await loadBench<DecodeBenchModule>('serving/index.ts');
    const { device, rows, profile } = await runBench(() =>
      runDecodeBench({ ...flags, shape: flags.model, print: line }),
    );
    await saveRecord(flags, `decode-${flags.model}`, device, {
      unit: 'output tokens per second; profile in us',
      rows,
      profile,
    });
  });
}
