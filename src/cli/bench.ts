/** `nanoflow bench`: throughput, latency, kernels and decode; prints a table and saves it with what is needed to repeat it. */
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Command, Option } from 'commander';
import { packageRoot } from '../worker/node/client.ts';
import {
  type BenchDevice,
  type DecodeBenchModule,
  type KernelBenchModule,
  loadBench,
} from './benchSource.ts';
import { describeEngine, describeMachine, deviceName } from './describe.ts';
import { addEngineOptions, type EngineFlags, loadModel } from './engineOptions.ts';
import { type Figures, type Load, measure } from './measure.ts';
import { formatTable } from './table.ts';
import { CliError, integer, integers } from './values.ts';
import { version } from './version.ts';

interface BenchFlags extends EngineFlags {
  streams: number[];
  promptTokens: number[];
  outputTokens: number;
  runs: number;
  out?: string;
  save: boolean;
}

export function benchCommand(): Command {
  const command = new Command('bench')
    .description('measure throughput, latency, kernels or decoding')
    .addHelpText(
      'after',
      `
Examples:
  nanoflow bench throughput --streams 1,16
  nanoflow bench latency --prompt-tokens 16,128,512 --device cpu
  nanoflow bench kernels --device webgpu --filter gemm
  nanoflow bench decode --shape llama-3.2-1b --streams 1,16,64`,
    );
  command.addCommand(
    serving('throughput', 'tokens per second of N streams at the same time', {
      streams: '1,4,16',
      prompt: '32',
      output: 128,
    }),
  );
  command.addCommand(
    serving('latency', 'time to first token and between tokens, by length of the prompt', {
      streams: '1',
      prompt: '16,128,512',
      output: 64,
    }),
  );
  command.addCommand(kernels());
  command.addCommand(decode());
  return command;
}

function serving(
  name: string,
  description: string,
  defaults: { streams: string; prompt: string; output: number },
): Command {
  const streams = integers(1, 4096);
  const lengths = integers(1);
  const command = new Command(name)
    .description(description)
    .option('--streams <list>', 'requests at the same time', streams, streams(defaults.streams))
    .option(
      '--prompt-tokens <list>',
      'lengths of the prompts (random tokens)',
      lengths,
      lengths(defaults.prompt),
    )
    .option('--output-tokens <n>', 'tokens of each answer', integer(2), defaults.output)
    .option('--runs <n>', 'measured runs; figures are medians', integer(1, 1000), 3);
  return addSaveOptions(addEngineOptions(command)).action((flags: BenchFlags) => benchServing(name, flags));
}

function addSaveOptions(command: Command): Command {
  return command
    .option('--out <file>', 'where to save the figures (default: bench/results/<date>-<device>-<name>.json)')
    .addOption(new Option('--no-save', 'only print'));
}

async function benchServing(name: string, flags: BenchFlags): Promise<void> {
  const { client } = await loadModel(flags);
  try {
    const { info } = client;
    for (const line of describeEngine(info)) process.stdout.write(`${line}\n`);
    const loads = flags.promptTokens.flatMap((promptTokens) =>
      flags.streams.map((streams): Load => ({ streams, promptTokens, outputTokens: flags.outputTokens })),
    );
    const longest = Math.max(...flags.promptTokens) + flags.outputTokens;
    if (longest > info.model.maxModelLen)
      throw new CliError(
        `prompt and answer of ${longest} tokens do not fit in the model's ${info.model.maxModelLen}: lower --prompt-tokens or --output-tokens`,
      );
    const rows: Figures[] = [];
    for (const load of loads) {
      process.stderr.write(`${load.streams} x ${load.promptTokens}/${load.outputTokens} tokens ...\n`);
      rows.push(await measure(client, load, flags.runs));
    }
    process.stdout.write(`\n${formatFigures(rows)}`);
    const unit = 'rates in output tokens per second, times in ms, medians of the runs';
    await save(flags, name, info.device, { unit, engine: info, rows });
  } finally {
    await client.dispose();
  }
}

function formatFigures(rows: Figures[]): string {
  const head = [
    'streams',
    'prompt',
    'output',
    'total tok/s',
    'per stream',
    'TTFT p50 ms',
    'p99',
    'ITL p50 ms',
    'p99',
  ];
  const round = (value: number, digits: number) => Number(value.toFixed(digits));
  return formatTable(
    head,
    rows.map((row) => [
      row.streams,
      row.promptTokens,
      row.outputTokens,
      round(row.totalRate, 1),
      round(row.streamRate, 1),
      round(row.firstTokenP50, 1),
      round(row.firstTokenP99, 1),
      round(row.gapP50, 2),
      round(row.gapP99, 2),
    ]),
  );
}

const line = (text: string): void => void process.stdout.write(`${text}\n`);
const deviceOption = (): Option =>
  new Option('--device <kind>', 'where to compute').choices(['auto', 'webgpu', 'cpu']).default('auto');

interface SourceFlags {
  device: BenchDevice;
  out?: string;
  save: boolean;
}

function kernels(): Command {
  const command = new Command('kernels')
    .description(
      'time, bandwidth and arithmetic of each kernel (needs a clone: the cases are in bench/kernels)',
    )
    .addOption(deviceOption())
    .option('--filter <text>', 'only cases with this in their name');
  return addSaveOptions(command).action(async (flags: SourceFlags & { filter?: string }) => {
    const { runKernelBench } = await loadBench<KernelBenchModule>('kernels');
    const { device, rows } = await runKernelBench({ ...flags, print: line });
    await save(flags, 'kernels', device, { unit: 'microseconds: median of one run of the case', rows });
  });
}

function decode(): Command {
  const positive = integer(1);
  const command = new Command('decode')
    .description(
      'a published shape with random weights through the engine alone: tokens per second, and a profile of one step ' +
        '(needs a clone: bench/serving)',
    )
    .addOption(deviceOption())
    .option('--shape <name>', 'llama-3.2-1b, llama-3-8b or tiny', 'llama-3.2-1b')
    .option('--streams <list>', 'requests at the same time', integers(1, 4096), [1])
    .option('--prompt-tokens <n>', 'length of the prompts', positive, 128)
    .option('--output-tokens <n>', 'tokens of each answer', integer(2), 256)
    .option('--runs <n>', 'measured runs; figures are medians', integer(1, 1000), 3)
    .addOption(new Option('--storage <type>').choices(['auto', 'f32', 'f16']).default('auto'));
  type Flags = SourceFlags & Omit<Parameters<DecodeBenchModule['runDecodeBench']>[0], 'print'>;
  return addSaveOptions(command).action(async (flags: Flags) => {
    const { runDecodeBench } = await loadBench<DecodeBenchModule>('serving');
    const { device, rows, profile } = await runDecodeBench({ ...flags, print: line });
    await save(flags, `decode-${flags.shape}`, device, {
      unit: 'output tokens per second; profile in us',
      rows,
      profile,
    });
  });
}

/** "webgpu-llvmpipe-llvm-19": a device's name as part of a file's. */
function slug({ kind, name }: { kind: string; name: string }): string {
  const words = `${kind} ${name === kind ? '' : name}`.toLowerCase().match(/[a-z0-9]+/g) ?? [kind];
  return words.slice(0, 5).join('-');
}

async function save(
  flags: { out?: string; save: boolean },
  name: string,
  device: { kind: string; name: string },
  figures: object,
): Promise<void> {
  if (!flags.save) return;
  const date = new Date().toISOString();
  // In a clone next to the benches; an installed package is not a place to write to.
  const home = existsSync(join(packageRoot(), 'src')) ? packageRoot() : process.cwd();
  const folder = join(home, 'bench', 'results');
  const file = flags.out ?? join(folder, `${date.slice(0, 10)}-${slug(device)}-${name}.json`);
  const record = {
    name,
    date,
    version,
    command: `nanoflow ${process.argv.slice(2).join(' ')}`,
    device: deviceName(device),
    machine: describeMachine(),
    ...figures,
  };
  if (flags.out === undefined) await mkdir(folder, { recursive: true });
  await writeFile(file, `${JSON.stringify(record, null, 2)}\n`);
  process.stderr.write(`saved ${file}\n`);
}
