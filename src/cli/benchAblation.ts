/** `nanoflow bench ablation`: one batch through the pipelines non-overlap, nano-batch-only and overlap. */
import { writeFile } from 'node:fs/promises';
import { Command } from 'commander';
import { line } from './benchKernels.ts';
import { addRecordOptions, type RecordFlags, saveRecord } from './benchRecord.ts';
import { type BenchResult, loadBench, runBench } from './benchSource.ts';
import {
  addGpuOption,
  addShapeOption,
  deviceOption,
  resolveTarget,
  type TargetFlags,
} from './benchTarget.ts';
import { collect, CliError, integer } from './values.ts';

export interface AblationFlags extends RecordFlags, TargetFlags {
  model?: string;
  layers?: number;
  tokens?: number;
  decode?: number;
  context?: number;
  workload?: string;
  rounds: number;
  pipeline?: string[];
  figure?: string;
}

/** What bench/serving/ablation.ts exports. */
interface AblationModule {
  runAblationBench(
    options: Omit<AblationFlags, keyof RecordFlags> & { trace?: string; print: (line: string) => void },
  ): Promise<BenchResult & { model: string; figure: string }>;
}

export function ablationCommand(): Command {
  const command = new Command('ablation')
    .description(
      'one batch through the pipelines non-overlap, nano-batch-only and overlap: tokens per second, busy time of each ' +
        'lane, gain; a table, JSON and a figure (needs a clone)',
    )
    .addOption(deviceOption(['auto', 'cuda', 'webgpu', 'cpu', 'sim']));
  addShapeOption(addGpuOption(command))
    .option('--layers <n>', 'layers of the shape on real devices (default: a few)', integer(1, 1000))
    .option('--tokens <n>', 'tokens of the dense batch (default: by device)', integer(1))
    .option('--decode <n>', 'of these, tokens of decoding requests (default: half)', integer(0))
    .option('--context <n>', 'KV tokens of each decoding request (default: 512)', integer(1))
    .option('--workload <in:out>', 'take --decode and --context from the steady state of these lengths')
    .option(
      '--rounds <n>',
      'rounds in which every pipeline has its turn; figures are medians',
      integer(1, 1000),
      7,
    )
    .option(
      '--pipeline <file>',
      'compare this pipeline (JSON of nanoflow search) as well; several allowed',
      collect,
    )
    .option('--figure <file>', 'where to save the figure (default: beside the JSON, .svg)')
    .addHelpText(
      'after',
      `
Examples:
  nanoflow bench ablation --gpu a100-80x8 --model llama-2-70b --workload 512:512
  nanoflow bench ablation --device webgpu --model llama-3-8b --layers 4 --tokens 1024 --decode 512 --context 1024
  nanoflow bench ablation --device cpu --model tiny --trace ablation.perfetto.json`,
    );
  return addRecordOptions(command).action(async (flags: AblationFlags) => {
    if (flags.workload !== undefined && (flags.decode !== undefined || flags.context !== undefined))
      throw new CliError(
        '--workload already says how many tokens decode, over how much context: leave --decode and --context out',
      );
    const target = resolveTarget(flags);
    const { runAblationBench } = await loadBench<AblationModule>('serving/ablation.ts');
    const { device, figure, ...figures } = await runBench(() =>
      runAblationBench({ ...flags, ...target, print: line }),
    );
    const place = await saveRecord(flags, `ablation-${figures.model}`, device, figures);
    const file = flags.figure ?? (place === undefined ? undefined : `${place}.svg`);
    if (file === undefined) return;
    await writeFile(file, figure);
    process.stderr.write(`saved ${file}\n`);
  });
}
