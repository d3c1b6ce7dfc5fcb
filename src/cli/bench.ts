/** `nanoflow bench`: everything that is measured or modelled; each prints a table and saves it with what is needed to repeat it. */
import { Command } from 'commander';
import { ablationCommand } from './benchAblation.ts';
import { decodeCommand, kernelsCommand } from './benchKernels.ts';
import { latencyCommand, throughputCommand } from './benchServing.ts';
import { smallBenchCommands } from './benchSmall.ts';

export function benchCommand(): Command {
  const command = new Command('bench')
    .description('measure an engine, a device or the simulator')
    .addHelpText(
      'after',
      `
Examples:
  nanoflow bench throughput --streams 1,16
  nanoflow bench latency --prompt-tokens 16,128,512 --device cpu
  nanoflow bench throughput --gpu a100-80x8 --model llama-2-70b --workload 512:512 --requests 2000
  nanoflow bench kernels --device webgpu --filter gemm
  nanoflow bench decode --model llama-3.2-1b --streams 1,16,64
  nanoflow bench ablation --gpu a100-80x8 --model llama-2-70b --trace ablation.perfetto.json
  nanoflow bench fidelity

Every bench takes --json FILE (its figures) and --trace FILE.`,
    );
  command.addCommand(throughputCommand());
  command.addCommand(latencyCommand());
  command.addCommand(kernelsCommand());
  command.addCommand(decodeCommand());
  command.addCommand(ablationCommand());
  for (const small of smallBenchCommands()) command.addCommand(small);
  return command;
}
