/** `nanoflow search`: the fastest pipeline for each make-up of batches, measured on a device or priced by the simulator. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import packageJson from '../../package.json' with { type: 'json' };
import { meanLengths, parseTrace } from '../../src/engine/device/sim/arrivals.ts';
import { steadyMix } from '../../src/engine/device/sim/mix.ts';
import { parseModelConfig } from '../../src/engine/model/config.ts';
import { readJson } from '../../src/engine/model/modelFiles.ts';
import { openModelDirectory } from '../../src/engine/model/modelFilesNode.ts';
import { ModelRunner } from '../../src/engine/model/runner.ts';
import { chooseSizes } from '../../src/engine/model/sizes.ts';
import { overlap } from '../../src/engine/pipeline/presets.ts';
import type { Pipeline } from '../../src/engine/pipeline/pipeline.ts';
import { mixName, randomizeKv, type BatchMix } from '../../src/engine/search/measure.ts';
import type { Solver } from '../../src/engine/search/milp.ts';
import { searchMix, type SearchResult, type SearchRow } from '../../src/engine/search/search.ts';
import {
  parseTable,
  TABLE_FORMAT,
  TABLE_VERSION,
  tableKey,
  type PipelineEntry,
  type PipelineTable,
} from '../../src/engine/search/table.ts';
import { tableFile } from '../../src/engine/search/tableFileNode.ts';
import { printPipeline } from '../../src/engine/pipeline/print.ts';
import { formatTable } from '../../src/cli/table.ts';
import { openDevice } from '../kernels/index.ts';
import { BenchError, usage } from './benchError.ts';
import { mixRunner, parseMix } from './mixes.ts';
import { openSim } from './simSetup.ts';

// The command loads this file through Vite's runner, which imports nothing more once the file is loaded.
const solver = await import('highs').then(({ default: create }) => create()).catch(() => undefined);

export interface SearchBenchOptions {
  device: 'auto' | 'cuda' | 'webgpu' | 'cpu' | 'sim';
  gpu?: string;
  /** Folder of a model, or a published shape with random weights. */
  model: string;
  layers?: number;
  /** "in:out" or a CSV of lengths; or mixes as DECODExCONTEXT[+PREFILL], comma-separated. */
  workload?: string;
  mixes?: string;
  tokens?: number; // dense batch of a workload; default by device
  quick?: boolean;
  print: (line: string) => void;
  progress?: (done: number, all: number, what: string) => void;
}

export async function runSearchBench(options: SearchBenchOptions): Promise<{
  device: { kind: string; name: string };
  rows: object[];
  table?: PipelineTable;
}> {
  return options.device === 'sim' ? searchSim(options) : searchDevice(options);
}

async function searchDevice(options: SearchBenchOptions) {
  const { print, quick, progress } = options;
  const device = await openDevice(options.device as 'auto' | 'cuda' | 'webgpu' | 'cpu');
  try {
    const slow = device.target.software || device.target.kind === 'cpu';
    const mixes = usage(() => mixesOf(options, slow ? 64 : 1024));
    const runner = await loadRunner(device, options, mixes).catch((error: Error) => {
      throw new BenchError(error.message, { cause: error });
    });
    if (!solver) print('the package highs does not load: only the descent searches');
    const rows: object[] = [];
    const entries: PipelineEntry[] = [];
    const summary: (string | number)[][] = [];
    for (const mix of mixes) {
      const result = await searchMix(runner, mix, {
        solver: solver as Solver | undefined,
        best: quick ? 1 : 2,
        warmUpMs: quick ? 100 : 200,
        rounds: quick ? 5 : 7,
        progressOf: (stage, done, all, what) => progress?.(done, all, `${mixName(mix)}: ${stage} ${what}`),
      });
      printResult(result, print);
      const { best } = result;
      entries.push({
        mix,
        pipeline: best.pipeline ?? null,
        plainMilliseconds: stepOf(result.rows[0]),
        milliseconds: stepOf(best),
      });
      summary.push([
        mixName(mix),
        stepOf(result.rows[0]).toFixed(3),
        best.name,
        stepOf(best).toFixed(3),
        `${best.gain.toFixed(3)}x`,
        `${Math.max(...result.rows.filter(({ pipeline }) => pipeline).map(({ gain }) => gain), 0).toFixed(3)}x`,
      ]);
      rows.push({
        mix,
        best: best.name,
        gain: best.gain,
        methods: result.methods,
        profile: result.profile,
        candidates: result.rows.map(({ name, from, modelled, measured, repeated, gain }) => ({
          name,
          from,
          modelled,
          measured,
          repeated,
          gain,
        })),
      });
    }
    const head = ['mix', 'plain ms', 'kept', 'ms', 'gain', 'best pipeline'];
    for (const line of formatTable(head, summary).trimEnd().split('\n')) print(line);
    const { config, sizes } = runner;
    const subject = {
      device: device.target.name,
      config,
      storage: sizes.types.weights,
      engineVersion: packageJson.version,
    };
    const table: PipelineTable = {
      format: TABLE_FORMAT,
      version: TABLE_VERSION,
      key: tableKey(subject),
      device: device.target.name,
      model: options.model,
      entries,
    };
    if (options.layers === undefined) {
      const file = tableFile(table.key);
      await mkdir(dirname(file), { recursive: true });
      table.entries.push(...entriesBefore(file, mixes));
      await writeFile(file, `${JSON.stringify(table, null, 1)}\n`);
      print(`saved ${file}: nanoflow serve takes it for this model on this device`);
    } else
      print(`a search over ${options.layers} layers is not kept for serving: leave --layers out for that`);
    return { device: { kind: device.target.kind, name: device.target.name }, rows, table };
  } finally {
    device.destroy();
  }
}

/** What an earlier search of the same subject kept for other mixes. */
function entriesBefore(file: string, mixes: readonly BatchMix[]): PipelineEntry[] {
  if (!existsSync(file)) return [];
  const searched = new Set(mixes.map(mixName));
  try {
    return parseTable(readFileSync(file, 'utf8'), file).entries.filter(
      ({ mix }) => !searched.has(mixName(mix)),
    );
  } catch {
    return []; // made by another version: nothing to keep
  }
}

/** As a server has it, where that was measured. */
function stepOf({ measured, repeated }: SearchRow): number {
  return repeated ?? measured;
}

function printResult(result: SearchResult, print: (line: string) => void): void {
  print(`${mixName(result.mix)}:`);
  const milliseconds = (value: number | undefined): string => (value === undefined ? '' : value.toFixed(3));
  const rows = result.rows.map(({ name, from, modelled, measured, repeated, gain }) => [
    name === result.best.name ? `${name} *` : name,
    from,
    milliseconds(modelled),
    milliseconds(measured),
    milliseconds(repeated),
    `${gain.toFixed(3)}x`,
  ]);
  const head = ['candidate', 'from', 'layers, model ms', 'step in turns, ms', 'again and again, ms', 'gain'];
  for (const line of formatTable(head, rows).trimEnd().split('\n')) print(`  ${line}`);
  const { pipeline } = result.best;
  if (pipeline) for (const line of printPipeline(pipeline).trimEnd().split('\n')) print(`  ${line}`);
  for (const { name, microseconds, seconds } of result.methods) {
    print(`  ${name}: ${microseconds.toFixed(0)} us a layer by the model, found in ${seconds.toFixed(2)} s`);
  }
}

async function loadRunner(
  device: Awaited<ReturnType<typeof openDevice>>,
  { model, layers }: SearchBenchOptions,
  mixes: readonly BatchMix[],
): Promise<ModelRunner> {
  if (!isFolder(model)) return mixRunner(device, model, layers, mixes);
  const files = await openModelDirectory(model);
  const config = parseModelConfig(await readJson(files, 'config.json'));
  const sizes = chooseSizes(config, device.target, {});
  const runner = await ModelRunner.load(device, config, files, sizes);
  await files.close();
  randomizeKv(runner);
  return runner;
}

function isFolder(path: string): boolean {
  return existsSync(path) && statSync(path).isDirectory();
}

/** The mixes that were asked for; of a workload its steady state, and more decode and more prefill than that. */
function mixesOf(
  { mixes, workload, tokens: wanted, model }: SearchBenchOptions,
  fallback: number,
): BatchMix[] {
  if (mixes !== undefined) return mixes.split(',').map(parseMix);
  const tokens = wanted ?? fallback;
  const { input, output } = lengthsOf(
    workload ?? (isFolder(model) || model === 'tiny' ? '64:64' : '512:512'),
  );
  const context = Math.round(input + output / 2);
  const steady = Math.max(1, Math.round((tokens * output) / (input + output)));
  return [
    { decode: Math.max(2, steady >> 1), context, prefill: 0 },
    { decode: steady, context, prefill: tokens - steady },
    { decode: Math.max(2, steady >> 2), context, prefill: tokens - Math.max(2, steady >> 2) },
  ];
}

function lengthsOf(workload: string): { input: number; output: number } {
  const match = /^(\d+):(\d+)$/.exec(workload);
  if (match) return { input: Number(match[1]), output: Number(match[2]) };
  if (!existsSync(workload)) {
    throw new Error(`got workload '${workload}', expected IN:OUT or a CSV file of lengths`);
  }
  const [input, output] = meanLengths(parseTrace(readFileSync(workload, 'utf8')));
  return { input, output };
}

/** On the simulator: the presets and a descent over the overlap family, all priced by the cost model. */
async function searchSim(options: SearchBenchOptions) {
  const { print } = options;
  const setup = usage(() => openSim({ gpu: options.gpu ?? 'a100-80x8', model: options.model }));
  const tokens = options.tokens ?? 2048;
  const { input, output } = usage(() => lengthsOf(options.workload ?? '512:512'));
  const mix = steadyMix(input, output, tokens, setup.kvTokens);
  const { sms } = setup.system.gpu;
  const price = (pipeline: Pipeline): number => setup.stepModel(() => pipeline).price(mix).seconds * 1000;
  const rows = setup.presets(mix).map((pipeline) => ({
    name: pipeline.name,
    from: 'preset',
    pipeline,
    modelled: price(pipeline),
  }));
  const started = performance.now();
  const grid = Math.max(128, Math.round(mix.tokens / 16 / 128) * 128);
  let best: { name: string; from: string; pipeline: Pipeline; modelled: number } | undefined;
  let tried = 0;
  for (let boundary = grid; boundary < mix.tokens; boundary += grid) {
    for (const part of setup.system.count > 1 ? [0.4] : [0.2, 0.3, 0.4, 0.5, 0.6]) {
      for (const cut of setup.system.count > 1 ? [1] : [0.5, 0.67, 1]) {
        const attentionShare = Math.round(part * sms);
        const name = `search ${boundary}/${attentionShare}/${cut}`;
        const pipeline = overlap(setup.graph, mix, sms, { boundary, attentionShare, cut, name });
        const modelled = price(pipeline);
        tried++;
        if (!best || modelled < best.modelled) best = { name, from: 'search', pipeline, modelled };
      }
    }
    options.progress?.(boundary, mix.tokens, 'structures and shares');
  }
  if (best) rows.push(best);
  const kept = rows.reduce((a, b) => (b.modelled < a.modelled ? b : a));
  const perGpu = (milliseconds: number): number => (mix.tokens / milliseconds / setup.system.count) * 1000;
  const head = ['candidate', 'from', 'step, model ms', 'tokens/s/GPU, model', 'gain'];
  const lines = rows.map(({ name, from, modelled }) => [
    name === kept.name ? `${name} *` : name,
    from,
    modelled.toFixed(2),
    perGpu(modelled).toFixed(0),
    `${(rows[0].modelled / modelled).toFixed(3)}x`,
  ]);
  for (const line of formatTable(head, lines).trimEnd().split('\n')) print(line);
  for (const line of printPipeline(kept.pipeline).trimEnd().split('\n')) print(line);
  print(`${tried} candidates in ${((performance.now() - started) / 1000).toFixed(1)} s`);
  return {
    device: { kind: 'sim', name: setup.system.name },
    rows: rows.map(({ name, from, modelled }) => ({ name, from, modelled })),
    pipeline: kept.pipeline,
  };
}
