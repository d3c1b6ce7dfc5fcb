/** `nanoflow search`: profiles a model on a device, searches pipelines of nano-operations, and keeps the fastest. */
import { writeFile } from 'node:fs/promises';
import { Command } from 'commander';
import { line } from './benchKernels.ts';
import { addRecordOptions, type RecordFlags, saveRecord } from './benchRecord.ts';
import { type BenchResult, loadBench, runBench } from './benchSource.ts';
import { addGpuOption, deviceOption, resolveTarget, type TargetFlags } from './benchTarget.ts';
import { integer } from './values.ts';

interface SearchFlags extends RecordFlags, TargetFlags {
  model: string;
  workload?: string;
  mixes?: string;
  tokens?: number;
  layers?: number;
  quick?: boolean;
  pipelines?: string;
}

/** What bench/serving/search.ts exports. */
interface SearchModule {
  runSearchBench(
    options: Omit<SearchFlags, keyof RecordFlags> & {
      print: (line: string) => void;
      progress: (done: number, all: number, what: string) => void;
    },
  ): Promise<BenchResult & { table?: object; pipeline?: object }>;
}

export function searchCommand(): Command {
  const command = new Command('search')
    .description(
      'profile operations, search nano-batch pipelines (descent and MILP), measure the best, keep the fastest (needs a clone)',
    )
    .requiredOption(
      '--model <folder|shape>',
      'a model, or a published shape with random weights: llama-3-8b, ...',
    )
    .addOption(deviceOption(['auto', 'cuda', 'webgpu', 'cpu', 'sim']));
  addGpuOption(command)
    .option(
      '--workload <in:out|csv>',
      'lengths of prompts and answers: their steady state is what is searched for',
    )
    .option('--mixes <list>', 'batches instead of a workload: DECODExCONTEXT[+PREFILL], comma-separated')
    .option('--tokens <n>', 'tokens of the dense batch', integer(2))
    .option('--layers <n>', 'layers of the shape on real devices', integer(1, 1000))
    .option('--quick', 'fewer candidates and rounds')
    .option('--pipelines <file>', 'save the pipelines as JSON here as well')
    .addHelpText(
      'after',
      `
Examples:
  nanoflow search --model llama-3-8b --device webgpu --layers 8 --mixes 512x1024+512,256x2000
  nanoflow search --model models/embedded --device cpu --quick
  nanoflow search --gpu a100-80x8 --model llama-2-70b --workload 512:512`,
    );
  return addRecordOptions(command).action(async (flags: SearchFlags) => {
    const target = resolveTarget(flags);
    const { runSearchBench } = await loadBench<SearchModule>('serving/search.ts');
    let shown = '';
    const progress = (done: number, all: number, what: string): void => {
      const text = `[${'#'.repeat(Math.round((20 * done) / all)).padEnd(20, '.')}] ${what}`;
      if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text.slice(0, 99)}`);
      else if (what.split(':')[0] !== shown) process.stderr.write(`${what}\n`);
      shown = what.split(':')[0];
    };
    const { device, table, pipeline, ...figures } = await runBench(() =>
      runSearchBench({ ...flags, ...target, print: line, progress }),
    );
    if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
    if (flags.pipelines !== undefined) {
      await writeFile(flags.pipelines, `${JSON.stringify(table ?? pipeline, null, 1)}\n`);
    }
    const name = flags.model.replaceAll(/[^\w.-]+/g, '-').replace(/^-+|-+$/g, '');
    await saveRecord(flags, `search-${name}`, device, { model: flags.model, ...figures });
  });
}
