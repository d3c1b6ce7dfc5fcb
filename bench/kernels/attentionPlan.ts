/**
 * `nanoflow bench attention-plan`: the attention plan against one workgroup for each (request, KV head) and against
 * fixed splitting (256 tokens, in turns), on skewed batches and on the lengths of real traces: imbalance, and time on
 * the device, as ratios within one run. The three take turns, so that clocks and neighbours touch all alike.
 * Then the host's time for a plan.
 */
import type { CompiledProgram, Device } from '../../src/engine/device.ts';
import type { KernelCall } from '../../src/engine/kernels/calls.ts';
import {
  attentionCapacity,
  planAttention,
  type AttentionPlanInput,
} from '../../src/engine/plan/attention.ts';
import { stepMetaLayout, type StepMetaLayout } from '../../src/engine/plan/stepMeta.ts';
import { planFixed, planWhole } from './attentionBaselines.ts';
import { skewedBatches, traceBatch, type LengthBatch } from './attentionBatches.ts';
import { savePlanTrace } from './attentionPlanTrace.ts';
import { Buffers } from './buffers.ts';
import { openDevice, type KernelBenchOptions } from './index.ts';

export interface AttentionPlanBenchOptions {
  device: KernelBenchOptions['device'];
  print: (line: string) => void;
  /** CSV files with columns ContextTokens and GeneratedTokens. */
  traces?: readonly string[];
  rounds?: number; // 15: timed rounds of each schedule
  /** Where to save the plans of the skewed batches as a trace. */
  trace?: string;
}

export interface AttentionPlanRow {
  batch: string;
  workgroups: number; // the budget
  schedule: 'plan' | 'whole' | 'fixed';
  imbalance: number;
  /** Median time of attention and merge of one layer. */
  microseconds: number;
  /** This schedule's time over the plan's. */
  ratio: number;
  items: number;
  mergeRows: number;
  partialRows: number;
}

export interface PlanTimeRow {
  requests: number;
  workgroups: number;
  order: 'given' | 'largest' | 'best';
  microseconds: number; // median on one CPU core
  imbalance: number;
}

const PAGE = 16;
const FIXED_CHUNK = 256;
const SHAPES = {
  gpu: { heads: 32, kvHeads: 8, headDim: 128, dtype: 'f16' as const, requests: 128, scale: 1 },
  software: { heads: 8, kvHeads: 4, headDim: 32, dtype: 'f32' as const, requests: 32, scale: 1 / 16 },
};
type Shape = (typeof SHAPES)['gpu' | 'software'];

export async function runAttentionPlanBench(options: AttentionPlanBenchOptions): Promise<{
  device: { kind: string; name: string };
  unit: string;
  rows: AttentionPlanRow[];
  planTimes: PlanTimeRow[];
}> {
  const { print, traces = [], rounds = 15 } = options;
  const device = await openDevice(options.device);
  const { kind, name, software, defaultWorkgroups } = device.target;
  const small = kind === 'cpu' || software;
  const shape: Shape = small ? SHAPES.software : SHAPES.gpu;
  const budgets = [defaultWorkgroups, ...(defaultWorkgroups >= 4 ? [Math.round(defaultWorkgroups / 4)] : [])];
  const random = seeded(1);
  const batches = skewedBatches(shape.scale);
  for (const file of traces) batches.push(await traceBatch(file, shape.requests, shape.scale, random));
  const rows: AttentionPlanRow[] = [];
  try {
    print(`${name}: ${shape.heads}/${shape.kvHeads} heads of ${shape.headDim}, ${shape.dtype}`);
    print(`${'batch'.padEnd(42)} workgroups  schedule  imbalance         time  of the plan's`);
    for (const batch of batches) {
      for (const budget of budgets) {
        const measured = await measure(device, batch, shape, budget, rounds);
        for (const row of measured) print(formatRow(row));
        rows.push(...measured);
      }
    }
  } finally {
    device.destroy();
  }
  const planTimes = measurePlanning(print);
  if (options.trace !== undefined) await savePlanTrace(options.trace, print);
  return { device: { kind, name }, unit: 'microseconds: median of one layer', rows, planTimes };
}

function formatRow(row: AttentionPlanRow): string {
  const time = `${row.microseconds.toFixed(1)} us`;
  return (
    `${row.batch.padEnd(42)} ${String(row.workgroups).padStart(10)}  ${row.schedule.padEnd(8)}  ` +
    `${row.imbalance.toFixed(2).padStart(9)} ${time.padStart(12)} ${row.ratio.toFixed(2).padStart(9)}x`
  );
}

/** Requests in the order of the batch, tokens and pages one after the other. */
function requestsOf({ lengths }: LengthBatch): {
  requests: AttentionPlanInput['requests'];
  tokens: number;
  pages: number;
} {
  let tokens = 0;
  let pages = 0;
  const requests = lengths.map(({ qLen, kvLen }) => {
    const request = { qStart: tokens, qLen, kvLen, pageStart: pages };
    tokens += qLen;
    pages += Math.ceil(kvLen / PAGE);
    return request;
  });
  return { requests, tokens, pages };
}

/** Room for each of the three schedules: fixed splitting makes the most chunks, one workgroup each the most lists. */
function layoutFor(input: AttentionPlanInput, tokens: number, pages: number): StepMetaLayout {
  const { requests, heads, kvHeads, workgroups } = input;
  const own = attentionCapacity({ tokens, requests: requests.length, heads, kvHeads, workgroups });
  const group = heads / kvHeads;
  let tiles = 0;
  let chunks = 0;
  for (const { qLen, kvLen } of requests) {
    const of = Math.ceil((qLen * group) / (qLen * group > 16 ? 128 : 16));
    tiles += of;
    chunks += of * Math.max(1, Math.ceil(kvLen / FIXED_CHUNK));
  }
  return stepMetaLayout({
    tokens,
    requests: requests.length,
    pages,
    items16: Math.max(own.items16, chunks * kvHeads),
    items128: Math.max(own.items128, chunks * kvHeads),
    mergeRows: Math.max(own.mergeRows, tokens * heads),
    attentionWorkgroups: Math.max(workgroups, tiles * kvHeads),
    adjustments: 1,
  });
}

async function measure(
  device: Device,
  batch: LengthBatch,
  { heads, kvHeads, headDim, dtype }: Shape,
  budget: number,
  rounds: number,
): Promise<AttentionPlanRow[]> {
  const { requests, tokens, pages } = requestsOf(batch);
  const input = { requests, heads, kvHeads, headDim, pageSize: PAGE, workgroups: budget };
  const layout = layoutFor(input, tokens, pages);
  const [section] = layout.attention;
  const buffers = new Buffers(device);
  const kv = [pages, kvHeads, PAGE, headDim];
  const q = buffers.random('q', dtype, [tokens, heads, headDim]);
  const kCache = buffers.random('k', dtype, kv);
  const vCache = buffers.random('v', dtype, kv);
  const out = buffers.make('out', dtype, [tokens, heads, headDim]);
  const pageTable = shuffled(pages);

  const schedules = (['plan', 'whole', 'fixed'] as const).map((schedule) => {
    const words = new Uint32Array(layout.words);
    words.set(pageTable, layout.pages);
    // The whole device runs one workgroup each as it comes; a share of the device can only be kept by taking turns.
    const made =
      schedule === 'plan'
        ? { ...planAttention(input, section, words), workgroups: { 16: budget, 128: budget } }
        : schedule === 'whole'
          ? planWhole(input, budget === device.target.defaultWorkgroups, section, words)
          : planFixed(input, FIXED_CHUNK, section, words);
    return { schedule, words, made };
  });
  const partials = Math.max(1, ...schedules.map(({ made }) => made.partialRows));
  const partialOut = buffers.make('partialOut', 'f32', [partials, headDim]);
  const partialLse = buffers.make('partialLse', 'f32', [partials]);
  const tensors = { q, kCache, vCache, out, partialOut, partialLse };
  const sizes = { heads, kvHeads, headDim, pageSize: PAGE, scale: 1 / Math.sqrt(headDim) };

  const calls = schedules.map(({ words, made, schedule }): KernelCall[] => {
    const meta = buffers.make(`meta ${schedule}`, 'u32', [layout.words]);
    device.write(meta.buffer, 0, words);
    const base = { label: schedule, meta, layout };
    const list: KernelCall[] = [];
    for (const tile of [16, 128] as const) {
      if ((tile === 16 ? made.items16 : made.items128) === 0) continue;
      list.push({
        ...base,
        kernel: 'attention',
        tile,
        ...tensors,
        ...sizes,
        workgroups: made.workgroups[tile],
      });
    }
    if (made.mergeRows > 0) list.push({ ...base, kernel: 'merge', partialOut, partialLse, out, headDim });
    return list;
  });
  const times = await inTurns(device, calls, rounds);
  buffers.free();
  return schedules.map(({ schedule, made }, i) => ({
    batch: batch.name,
    workgroups: budget,
    schedule,
    imbalance: made.imbalance,
    microseconds: times[i],
    ratio: times[i] / times[0],
    items: made.items16 + made.items128,
    mergeRows: made.mergeRows,
    partialRows: made.partialRows,
  }));
}

/** Median microseconds of one run of each list of calls; the lists take turns, round by round. */
async function inTurns(device: Device, lists: readonly KernelCall[][], rounds: number): Promise<number[]> {
  const run = async (program: CompiledProgram): Promise<number> => {
    const started = performance.now();
    device.submit(program);
    await device.idle();
    return performance.now() - started;
  };
  const once = await device.compile('attention plan x1', lists[0]);
  await run(once);
  const estimate = Math.max(0.02, Math.min(await run(once), await run(once)));
  once.destroy();
  const repeats = Math.max(1, Math.min(200, Math.round(20 / estimate)));
  const programs: CompiledProgram[] = [];
  for (const [i, calls] of lists.entries()) {
    const repeated = Array.from({ length: repeats }, () => calls).flat();
    programs.push(await device.compile(`attention plan ${i} x${repeats}`, repeated));
  }
  // Clocks fall while pipelines compile.
  for (const end = performance.now() + 150; performance.now() < end;) {
    for (const program of programs) await run(program);
  }
  const times = programs.map((): number[] => []);
  for (let round = 0; round < rounds; round++) {
    for (const [i, program] of programs.entries()) times[i].push((await run(program)) / repeats);
  }
  for (const program of programs) program.destroy();
  return times.map((list) => list.sort((a, b) => a - b)[Math.floor(rounds / 2)] * 1000);
}

/** Host time of one plan by batch size: lengths from 1 to 4096, 32/8 heads of 128. */
function measurePlanning(print: (line: string) => void): PlanTimeRow[] {
  const rows: PlanTimeRow[] = [];
  print('host time of one plan, random lengths up to 4096:');
  for (const count of [16, 128, 512]) {
    const random = seeded(count);
    const batch = Array.from({ length: count }, () => ({ qLen: 1, kvLen: 1 + Math.floor(random() * 4096) }));
    const { requests, tokens, pages } = requestsOf({ name: '', lengths: batch });
    const workgroups = 264;
    const input = { requests, heads: 32, kvHeads: 8, headDim: 128, pageSize: PAGE, workgroups };
    const layout = layoutFor(input, tokens, pages);
    const words = new Uint32Array(layout.words);
    for (const order of ['given', 'largest', 'best'] as const) {
      const times: number[] = [];
      let imbalance = 1;
      for (let i = 0; i < 300; i++) {
        const started = performance.now();
        imbalance = planAttention({ ...input, order }, layout.attention[0], words).imbalance;
        times.push((performance.now() - started) * 1000);
      }
      const microseconds = times.sort((a, b) => a - b)[150];
      rows.push({ requests: count, workgroups, order, microseconds, imbalance });
      print(
        `  ${String(count).padStart(4)} requests, ${order.padEnd(7)} ${microseconds.toFixed(0).padStart(5)} us, ` +
          `imbalance ${imbalance.toFixed(3)} over ${workgroups} workgroups`,
      );
    }
  }
  return rows;
}

function shuffled(count: number): Uint32Array {
  const random = seeded(7);
  const list = Uint32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [list[i], list[j]] = [list[j], list[i]];
  }
  return list;
}

/** mulberry32 */
function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
