/**
 * `nanoflow bench overlap`: one batch on the cuda device through overlapped pipelines, and what each costs: the step again
 * and again, with power and clock; the step in turns with the other orders; the same at context 1 (what everything but
 * decode attention takes with that share of the SMs); and for the fastest (or those that `show` names), when each launch
 * of a layer begins and ends, and on how many SMs it works.
 *
 * In turns all orders run at one clock. Again and again, each runs at the clock that its own power leaves it, as in a
 * server: that is what counts, and where a GPU is at its limit of power it is less than the gain in turns.
 */
import type { ProfiledItem } from '../../src/engine/device.ts';
import type { ModelRunner } from '../../src/engine/model/runner.ts';
import type { Pipeline } from '../../src/engine/pipeline/pipeline.ts';
import { inSequence, nonOverlap, overlap } from '../../src/engine/pipeline/presets.ts';
import {
  measureRepeated,
  measureSteps,
  mixBatch,
  mixName,
  type BatchMix,
} from '../../src/engine/search/measure.ts';
import { formatTable } from '../../src/cli/table.ts';
import { openDevice } from '../kernels/index.ts';
import { BenchError, usage } from './benchError.ts';
import { mixRunner, parseMix } from './mixes.ts';
import { PowerMeter, type PowerReading } from './powerMeter.ts';

export interface OverlapBenchOptions {
  shape?: string;
  /** Fewer than the shape has: 8 show what a layer costs, all of them what a step does. */
  layers?: number;
  mix?: string; // DECODExCONTEXT+PREFILL
  attentionSms?: readonly number[];
  /** For diagnosis: products of zeros draw little power, so that no limit of it slows the GPU down. */
  zeroWeights?: boolean;
  /** Orders whose launches are shown; default the fastest. */
  show?: readonly string[];
  /** For a profiler: only ONCE_STEPS steps of these orders. */
  once?: readonly string[];
  print: (line: string) => void;
}

export interface OverlapRow {
  name: string;
  milliseconds: number; // again and again
  /** The plain order's time over this one's. */
  gain: number;
  power?: PowerReading;
  /** In turns with the other orders. */
  inTurns: number;
  gainInTurns: number;
  /** In turns, at context 1. */
  withoutAttention: number;
}

/** A launch, as its CTAs recorded it. */
export interface LaunchLine {
  label: string;
  begin: number; // us
  end: number;
  multiprocessors: number;
  /** Part of the time of these multiprocessors in which a CTA worked on it. */
  busy: number;
}

/** How long a step is repeated before it is timed, and while. */
const SETTLE_MS = 400;
const READ_MS = 800;
/** The first compiles, and finds caches cold. */
const ONCE_STEPS = 3;

export async function runOverlapBench(options: OverlapBenchOptions) {
  const { shape = 'llama-3-8b', layers = 8, mix: text = '344x1280+680', print } = options;
  const { attentionSms = [28, 30, 32], zeroWeights = false, show, once } = options;
  const mix = usage(() => parseMix(text));
  if (mix.decode < 2 || mix.prefill < 2) {
    throw new BenchError(`got mix ${text}, expected decode and prompt tokens, e.g. 344x1280+680`);
  }
  const device = await openDevice('cuda');
  try {
    const runner = await mixRunner(device, shape, layers, [mix], { zeroWeights });
    const orders = ordersOf(runner, mix, attentionSms);
    const names = orders.map(({ name }) => name);
    const unknown = [...(show ?? []), ...(once ?? [])].find((name) => !names.includes(name));
    if (unknown !== undefined) {
      throw new BenchError(`got order '${unknown}', expected some of ${names.join(', ')}`);
    }
    print(
      `${shape}, ${layers} layers${zeroWeights ? ' of zeros' : ''}, ${mixName(mix)} on ${device.target.name}`,
    );
    const about = {
      device: { kind: device.target.kind, name: device.target.name },
      model: shape,
      layers,
      mix,
      zeroWeights,
    };
    if (once) {
      for (const { name, pipeline } of orders.filter((order) => once.includes(order.name))) {
        print(`${name}: ${ONCE_STEPS} steps`);
        for (let step = 0; step < ONCE_STEPS; step++) await launchOnce(runner, pipeline, mix);
      }
      return { ...about, rows: [], lines: {} };
    }
    const turns = await stepTimes(runner, orders, mix);
    const without = await stepTimes(runner, orders, { ...mix, context: 1 });
    const repeated = await repeatAll(runner, orders, mix);
    const rows = orders.map(({ name }, i): OverlapRow => ({
      name,
      ...repeated[i],
      gain: repeated[0].milliseconds / repeated[i].milliseconds,
      inTurns: turns[i],
      gainInTurns: turns[0] / turns[i],
      withoutAttention: without[i],
    }));
    const head = [
      'order',
      'step, ms',
      'gain',
      'W',
      'MHz',
      'J a step',
      'in turns, ms',
      'gain',
      'at context 1',
    ];
    const cells = rows.map(({ name, milliseconds, gain, power, inTurns, gainInTurns, withoutAttention }) => [
      name,
      milliseconds.toFixed(3),
      `${gain.toFixed(3)}x`,
      power ? power.watts.toFixed(0) : '',
      power ? power.megahertz.toFixed(0) : '',
      power ? ((power.watts * milliseconds) / 1000).toFixed(2) : '',
      inTurns.toFixed(3),
      `${gainInTurns.toFixed(3)}x`,
      withoutAttention.toFixed(3),
    ]);
    for (const line of formatTable(head, cells).trimEnd().split('\n')) print(line);
    const best = rows.reduce((a, b) => (b.gain > a.gain ? b : a));
    const lines: Record<string, LaunchLine[]> = {};
    for (const { name, pipeline } of orders) {
      if (!(show ?? [best.name]).includes(name)) continue;
      lines[name] = await launchLines(runner, pipeline, mix);
      printLines(name, lines[name], layers, print);
    }
    return { ...about, rows, lines };
  } finally {
    device.destroy();
  }
}

interface Order {
  name: string;
  /** Undefined: the plain order. */
  pipeline: Pipeline | undefined;
}

function ordersOf(runner: ModelRunner, mix: BatchMix, attentionSms: readonly number[]): Order[] {
  const rows = { tokens: mix.decode + mix.prefill, decodeTokens: mix.decode };
  const { defaultWorkgroups } = runner.device.target;
  const graph = runner.graph();
  const halves = { arrangement: 'halves', cut: 1 } as const;
  const made = (name: string, choice: Parameters<typeof overlap>[3]): Order => ({
    name,
    pipeline: overlap(graph, rows, defaultWorkgroups, { ...halves, ...choice, name }),
  });
  return [
    { name: 'plain', pipeline: undefined },
    { name: 'non-overlap', pipeline: nonOverlap(graph, rows, defaultWorkgroups) },
    // What splitting alone costs: the same nano-batches with nothing side by side.
    { name: 'halves', pipeline: inSequence(overlap(graph, rows, defaultWorkgroups, halves)) },
    ...attentionSms.flatMap((attentionShare) => [
      made(`${attentionShare} SMs`, { attentionShare, greenContexts: true }),
      made(`${attentionShare} SMs with prompts`, {
        attentionShare,
        greenContexts: true,
        prefillBeside: true,
      }),
    ]),
    made('co-located', { colocated: true }),
  ];
}

async function stepTimes(runner: ModelRunner, orders: readonly Order[], mix: BatchMix): Promise<number[]> {
  const pipelines = orders.map(({ pipeline }) => pipeline);
  const times = await measureSteps(runner, mixBatch(runner, mix), pipelines);
  return times.map(({ median }) => median);
}

async function launchOnce(runner: ModelRunner, pipeline: Pipeline | undefined, mix: BatchMix): Promise<void> {
  runner.usePipelines(pipeline && (() => pipeline));
  await (await runner.launch(mixBatch(runner, mix), [])).collect();
}

interface Repeated {
  milliseconds: number;
  power?: PowerReading;
}

/** Each order again and again, with power and clock where somebody tells. */
async function repeatAll(runner: ModelRunner, orders: readonly Order[], mix: BatchMix): Promise<Repeated[]> {
  const readings: PowerReading[][] = orders.map(() => []);
  let meter: PowerMeter | undefined;
  try {
    const times = await measureRepeated(
      runner,
      mixBatch(runner, mix),
      orders.map(({ pipeline }) => pipeline),
      {
        settleMs: SETTLE_MS,
        readMs: READ_MS,
        watch: (index) => {
          const started = (meter = new PowerMeter());
          return {
            begin: () => started.restart(),
            end: () => {
              readings[index].push(...[started.read()].filter((reading) => reading !== undefined));
              started.stop();
            },
          };
        },
      },
    );
    return times.map((milliseconds, i) => {
      const power = readings[i].length > 0 && {
        watts: mean(readings[i].map(({ watts }) => watts)),
        megahertz: mean(readings[i].map(({ megahertz }) => megahertz)),
        limitWatts: readings[i][0].limitWatts,
      };
      return { milliseconds, ...(power && { power }) };
    });
  } finally {
    meter?.stop();
  }
}

function mean(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0) / values.length;
}

/** The recording launches of one step, in the order of their begin. */
async function launchLines(
  runner: ModelRunner,
  pipeline: Pipeline | undefined,
  mix: BatchMix,
): Promise<LaunchLine[]> {
  await launchOnce(runner, pipeline, mix);
  const items = (await runner.profileLastItems()) ?? [];
  runner.usePipelines(undefined);
  const launches = new Map<object | string, ProfiledItem[]>();
  for (const item of items) {
    const key = item.call ?? item.label;
    const known = launches.get(key);
    if (known) known.push(item);
    else launches.set(key, [item]);
  }
  return [...launches.values()]
    .map((list): LaunchLine => {
      const begin = Math.min(...list.map(({ beginNs }) => beginNs)) / 1000;
      const end = Math.max(...list.map(({ endNs }) => endNs)) / 1000;
      const multiprocessors = new Set(list.map(({ sm }) => sm)).size;
      const worked = list.reduce((sum, { beginNs, endNs }) => sum + endNs - beginNs, 0) / 1000;
      const [{ label, kernel }] = list;
      return {
        label: `${label} (${kernel})`,
        begin,
        end,
        multiprocessors,
        busy: worked / (end - begin) / multiprocessors,
      };
    })
    .sort((a, b) => a.begin - b.begin);
}

/** Two layers from the middle: the first and last have nobody beside them. */
function printLines(
  name: string,
  lines: readonly LaunchLine[],
  layers: number,
  print: (line: string) => void,
): void {
  const middle = layers >> 1;
  const shown = lines.filter(({ label }) => {
    const layer = /^layers\.(\d+)\./.exec(label)?.[1];
    return layer !== undefined && Math.abs(Number(layer) - middle) <= 1;
  });
  if (shown.length === 0) return;
  print(`${name}: launches of layers ${middle - 1} to ${middle + 1} (recording slows them down)`);
  const zero = shown[0].begin;
  const cells = shown.map(({ label, begin, end, multiprocessors, busy }) => [
    label,
    (begin - zero).toFixed(0),
    (end - zero).toFixed(0),
    (end - begin).toFixed(0),
    multiprocessors,
    `${(100 * busy).toFixed(0)} %`,
  ]);
  const head = ['launch', 'begin, us', 'end', 'length', 'SMs', 'busy'];
  for (const line of formatTable(head, cells).trimEnd().split('\n')) print(`  ${line}`);
}
