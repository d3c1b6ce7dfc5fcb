/** Benches that need few options: attention plans, joined dispatches, host time, the simulator's fidelity. */
import { Command } from 'commander';
import { line } from './benchKernels.ts';
import { addRecordOptions, type RecordFlags, saveRecord } from './benchRecord.ts';
import { type BenchResult, loadBench, runBench } from './benchSource.ts';
import { type BenchDevice, deviceOption } from './benchTarget.ts';
import { collect } from './values.ts';

interface SmallFlags extends RecordFlags {
  device?: BenchDevice;
}

type Run = (
  options: SmallFlags & { print: (line: string) => void },
) => Promise<BenchResult & { unit?: string }>;

interface SmallBench {
  name: string;
  description: string;
  /** File under bench/, and the function that it exports. */
  file: string;
  run: string;
  devices?: readonly BenchDevice[];
  /** Its own options. */
  options?: (command: Command) => Command;
}

const REAL = ['auto', 'webgpu', 'cpu'] as const;

const benches: readonly SmallBench[] = [
  {
    name: 'attention-plan',
    description:
      'the attention plan: imbalance and time against one workgroup for each request and fixed splitting',
    file: 'kernels/attentionPlan.ts',
    run: 'runAttentionPlanBench',
    devices: REAL,
    options: (command) =>
      command.option('--traces <csv>', 'batches of the lengths in this file too; several allowed', collect),
  },
  {
    name: 'join-pairs',
    description:
      'two kernels side by side in one dispatch against one after the other, by share of workgroups',
    file: 'kernels/joinPairs.ts',
    run: 'runJoinPairsBench',
    devices: REAL,
  },
  {
    name: 'host-time',
    description: 'what the CPU does in an iteration: time to schedule, plan and deliver, by batch size',
    file: 'serving/hostTime.ts',
    run: 'runHostTimeBench',
  },
  {
    name: 'fidelity',
    description: 'the simulator against the published figures of NanoFlow',
    file: 'serving/fidelity.ts',
    run: 'runFidelityBench',
  },
];

export function smallBenchCommands(): Command[] {
  return benches.map(({ name, description, file, run, devices, options }) => {
    const command = new Command(name).description(`${description} (needs a clone)`);
    if (devices) command.addOption(deviceOption(devices));
    options?.(command);
    return addRecordOptions(command).action(async (flags: SmallFlags) => {
      const module = await loadBench<Record<string, Run>>(file);
      const { device, ...figures } = await runBench(() => module[run]({ ...flags, print: line }));
      await saveRecord(flags, name, device, figures);
    });
  });
}
