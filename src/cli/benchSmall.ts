/** Benches that need few options: attention plans, joined dispatches, host time, the simulator's fidelity. */
import { Command } from 'commander';
import { line } from './benchKernels.ts';
import { addRecordOptions, type RecordFlags, saveRecord } from './benchRecord.ts';
import { type BenchResult, loadBench, runBench } from './benchSource.ts';
import { type BenchDevice, deviceOption } from './benchTarget.ts';
import { CliError, collect, integer, integers } from './values.ts';

interface SmallFlags extends RecordFlags {
  device?: BenchDevice;
}

type Run = (
  options: SmallFlags & { print: (line: string) => void },
) => Promise<BenchResult & { unit?: string }>;

/** What bench/serving/rowsTrace.ts exports. */
interface RowsTraceModule {
  saveRowsTrace(options: {
    file: string;
    device: BenchResult['device'];
    rows: readonly object[];
    times?: Record<string, number>;
    print: (line: string) => void;
  }): Promise<boolean>;
}

interface SmallBench {
  name: string;
  description: string;
  /** File under bench/, and the function that it exports. */
  file: string;
  run: string;
  devices?: readonly BenchDevice[];
  /** It saves its trace itself; for others it is one of the rows that have a time. */
  ownTrace?: boolean;
  /** Fields of its rows that are times, in ns of one unit; default microseconds. */
  times?: Record<string, number>;
  /** Its own options. */
  options?: (command: Command) => Command;
}

const REAL = ['auto', 'cuda', 'webgpu', 'cpu'] as const;

const benches: readonly SmallBench[] = [
  {
    name: 'attention-plan',
    description:
      'the attention plan: imbalance and time against one workgroup for each request and fixed splitting',
    file: 'kernels/attentionPlan.ts',
    run: 'runAttentionPlanBench',
    ownTrace: true,
    devices: REAL,
    options: (command) =>
      command.option('--traces <csv>', 'batches of the lengths in this file too; several allowed', collect),
  },
  {
    name: 'join-pairs',
    description:
      'two kernels side by side in one dispatch against one after the other, by share of workgroups',
    file: 'kernels/joinPairs.ts',
    run: 'runJoinPairs',
    devices: REAL,
    options: (command) =>
      command
        .option('--rows <n>', 'rows of the matrix product (default: by device)', integer(1))
        .option('--requests <n>', 'requests of the attention', integer(1))
        .option('--context <n>', 'KV tokens of each request', integer(1)),
  },
  {
    name: 'gemm-peers',
    description:
      'matrix products of the cuda device beside cuBLASLt in the same run: few rows, many, part of the CTAs',
    file: 'kernels/cudaGemm.ts',
    run: 'runGemmPeers',
    options: (command) =>
      command
        .option('--filter <text>', 'only shapes whose name contains this')
        .option('--rows <list>', 'rows of the products', integers(1, 65536)),
  },
  {
    name: 'attention-peers',
    description:
      'attention of the cuda device against the bandwidth and arithmetic of the GPU: decode, prefill, mixed',
    file: 'kernels/cudaAttention.ts',
    run: 'runAttentionPeers',
  },
  {
    name: 'interference',
    description:
      'a matrix product beside a stream that reads memory: by CTA budgets, green contexts and co-location (cuda)',
    file: 'kernels/interference.ts',
    run: 'runInterference',
    options: (command) => command.option('--rows <n>', 'rows of the product', integer(1)),
  },
  {
    name: 'power',
    description:
      'energy of the parts of a layer, each at the clock that its power leaves it: attention, products whole and in halves (cuda)',
    file: 'kernels/power.ts',
    run: 'runPower',
    options: (command) => command.option('--rows <list>', 'rows of the products', integers(1, 65536)),
  },
  {
    name: 'offline',
    description:
      'total throughput in the steady state, as many requests as memory allows: a published shape with random weights',
    file: 'serving/offline.ts',
    run: 'runOfflineBench',
    devices: REAL,
    options: (command) =>
      command
        .option('--shape <name>', 'published shape', 'llama-3-8b')
        .option('--layers <n>', 'fewer layers than the shape has', integer(1))
        .option('--prompt-tokens <n>', 'length of the prompts', integer(1), 1024)
        .option('--output-tokens <n>', 'tokens of each answer', integer(2), 512)
        .option('--seconds <n>', 'length of the measured window', integer(1), 20)
        .option('--warm-seconds <n>', 'time before it', integer(0), 5)
        .option('--max-batch-tokens <n>', 'most tokens of one step', integer(1))
        .option('--max-requests <n>', 'most requests at the same time', integer(1))
        .option(
          '--attention-sms <list>',
          'also with overlapped pipelines (attention on so many SMs, products on the others), and with the first in sequence',
          integers(1, 1024),
        ),
  },
  {
    name: 'overlap',
    description:
      'one batch through overlapped pipelines: step and power again and again, in turns, without attention, when each launch runs (cuda)',
    file: 'serving/overlapBench.ts',
    run: 'runOverlapBench',
    options: (command) =>
      command
        .option('--shape <name>', 'published shape', 'llama-3-8b')
        .option('--layers <n>', 'layers of it', integer(1), 8)
        .option('--mix <text>', 'the batch: DECODExCONTEXT+PREFILL', '344x1280+680')
        .option('--attention-sms <list>', 'SMs for attention', integers(1, 1024))
        .option('--zero-weights', 'for diagnosis: products of zeros, which draw little power')
        .option(
          '--once <orders>',
          'only three steps of these orders, e.g. "plain,30 SMs", for a profiler: nothing is measured',
          (text: string) => text.split(','),
        )
        .option(
          '--show <orders>',
          'orders whose launches are shown, e.g. "plain,32 SMs"; default the fastest',
          (text: string) => text.split(','),
        ),
  },
  {
    name: 'load',
    description:
      'time of loading a model from files to the device, beside reading the files: a published shape, random',
    file: 'serving/loadTime.ts',
    run: 'runLoadBench',
    devices: REAL,
    options: (command) =>
      command
        .option('--shape <name>', 'published shape', 'llama-3.2-1b')
        .option('--layers <n>', 'fewer layers than the shape has', integer(1))
        .option('--runs <n>', 'measured runs', integer(1), 3),
  },
  {
    name: 'host-time',
    description: 'what the CPU does in an iteration: time to schedule, plan and deliver, by batch size',
    file: 'serving/hostTime.ts',
    run: 'runHostTimeBench',
    times: { engineMedian: 1e6, metadataMedian: 1e6, planMedian: 1e6 },
  },
  {
    name: 'fidelity',
    description: 'the simulator against the published figures of NanoFlow',
    file: 'sim/fidelity.ts',
    run: 'runFidelityBench',
  },
];

export function smallBenchCommands(): Command[] {
  return benches.map(({ name, description, file, run, devices, options, ownTrace, times }) => {
    const command = new Command(name).description(`${description} (needs a clone)`);
    if (devices) command.addOption(deviceOption(devices));
    options?.(command);
    return addRecordOptions(command).action(async (flags: SmallFlags) => {
      const module = await loadBench<Record<string, Run>>(file);
      const { device, ...figures } = await runBench(() => module[run]({ ...flags, print: line }));
      await saveRecord(flags, name, device, figures);
      if (flags.trace !== undefined && !ownTrace)
        await traceRows(flags.trace, name, { device, rows: figures.rows, times });
    });
  });
}

async function traceRows(
  file: string,
  name: string,
  figures: { device: BenchResult['device']; rows: object[]; times?: Record<string, number> },
): Promise<void> {
  const { saveRowsTrace } = await loadBench<RowsTraceModule>('serving/rowsTrace.ts');
  if (await saveRowsTrace({ file, print: line, ...figures })) return;
  throw new CliError(`bench ${name} times nothing that a trace could show: leave --trace out`);
}
