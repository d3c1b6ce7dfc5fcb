/**
 * Profile of a model on a device: each operation of a layer over sizes, decode attention over workgroup counts, and how
 * much a product and attention slow each other down. From whole steps with a timestamp around each call, so times are
 * those of real launches.
 */
import type { CallTiming } from '../device.ts';
import type { ModelRunner } from '../model/runner.ts';
import { nonOverlap, overlap } from '../pipeline/presets.ts';
import type { Pipeline } from '../pipeline/pipeline.ts';
import { mixBatch, type BatchMix } from './measure.ts';
import { besideTime, halvesOf, interpolate, type Point, type Rows, type StageProfile } from './stageModel.ts';

export interface ProfileOptions {
  /** Profiled runs of each batch; figures are medians. */
  runs?: number;
  /** Of each batch: until nothing got faster for this long; 100 */
  warmUpMs?: number;
  progress?: (done: number, all: number, what: string) => void;
}

const LONGEST_WARM_UP = 2000;

/** Labels of a layer's calls (model/program.ts) by what they are profiled as. */
const PRODUCTS = { kqv: 'qkv', o: 'o', up_gate: 'gate_up', down: 'down' } as const;
const SMALL = /^(norm1|norm2|rope_append|merge|silu_mul)$/;

/** Workgroups of a joined dispatch: parts with many registers have one for each core. */
export function coreWorkgroups({
  kind,
  software,
  defaultWorkgroups,
}: ModelRunner['device']['target']): number {
  if (kind === 'cuda') return defaultWorkgroups;
  return software || kind === 'cpu' ? Math.max(2, defaultWorkgroups) : Math.round(defaultWorkgroups / 2);
}

/**
 * @param mix the batch that the search is for: contexts come from it, and no size is larger
 * @throws Error when the device has no timestamps.
 */
export async function profileModel(
  runner: ModelRunner,
  mix: BatchMix,
  { runs = 3, warmUpMs = 100, progress }: ProfileOptions = {},
): Promise<StageProfile> {
  const { device, config } = runner;
  if (!device.target.features.timestamps && device.target.kind !== 'cpu') {
    throw new Error(`${device.target.name} has no timestamps: a search needs them to profile operations`);
  }
  const workgroups = coreWorkgroups(device.target);
  const tokens = mix.decode + mix.prefill;
  const sizes = [
    ...new Set([1, 0.75, 0.5, 0.375, 0.25, 0.125].map((part) => Math.max(1, Math.round(tokens * part)))),
  ];
  const shares = [0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875].map((part) =>
    Math.max(1, Math.round(part * workgroups)),
  );
  const all = sizes.length + shares.length + 3;
  let done = 0;
  const tell = (what: string): void => progress?.(++done, all, what);

  const layers = config.numLayers;
  const of = async (
    batchMix: BatchMix,
    pipeline?: Pipeline,
    per: 'layer' | 'call' = 'layer',
  ): Promise<Map<string, number>> => {
    const batch = mixBatch(runner, batchMix);
    runner.usePipelines(() => pipeline);
    try {
      await (await runner.launch(batch, [])).collect();
      await warmUp();
      const seen: Map<string, number>[] = [];
      for (let run = 0; run < runs; run++) seen.push(byOperation(await runner.profileLast(), layers, per));
      return medians(seen);
    } finally {
      runner.usePipelines(undefined);
    }
  };

  /** Clocks take up to a second to rise after a pause: until nothing gets faster, as when steps are measured. */
  const warmUp = async (): Promise<void> => {
    let fastest = Infinity;
    const started = performance.now();
    for (let end = started + warmUpMs; performance.now() < end;) {
      const time = (await runner.profileLast()).reduce((sum, { microseconds }) => sum + microseconds, 0);
      if (time < 0.98 * fastest) end = Math.min(performance.now() + warmUpMs, started + LONGEST_WARM_UP);
      fastest = Math.min(fastest, time);
    }
  };

  const products: Record<keyof typeof PRODUCTS, Point[]> = { kqv: [], o: [], up_gate: [], down: [] };
  const small: Point[] = [];
  for (const rows of sizes.sort((a, b) => a - b)) {
    const decode = Math.min(rows, runner.sizes.maxRequests - 1);
    const times = await of({ decode, context: 16, prefill: rows - decode });
    for (const name of Object.keys(PRODUCTS) as (keyof typeof PRODUCTS)[]) {
      products[name].push([rows, times.get(PRODUCTS[name]) ?? 0]);
    }
    let sum = 0;
    for (const [label, us] of times) if (SMALL.test(label)) sum += us;
    small.push([rows, sum]);
    tell(`${rows} rows`);
  }
  const whole = await of(mix);
  tell('attention');
  const decodeTime = whole.get('attention16') ?? 0;
  const prefillTime = mix.prefill > 0 ? (whole.get('attention128') ?? 0) : 0;
  const attention: Point[] = [];
  const graph = runner.graph();
  const rows = { tokens, decodeTokens: mix.decode };
  if (mix.decode > 0) {
    for (const share of shares) {
      const made = nonOverlap(graph, rows, workgroups);
      const nano = made.nano.map((each) =>
        each.operation === 'decode_attention' ? { ...each, share } : each,
      );
      const times = await of(mix, { ...made, nano });
      attention.push([share / workgroups, decodeTime / (times.get('attention16') ?? decodeTime)]);
      tell(`attention on ${share} of ${workgroups} workgroups`);
    }
  }
  const profile: StageProfile = {
    workgroups,
    products,
    small,
    decodeRow: mix.decode > 0 ? decodeTime / mix.decode : 0,
    prefillRow: mix.prefill > 0 ? prefillTime / mix.prefill : 0,
    attention: [...attention, [1, 1]],
    contention: 1,
  };
  return { ...profile, contention: await contentionOf(profile) };

  /** The factor that makes the model's time of a product beside attention the measured one, over two shares. */
  async function contentionOf(table: StageProfile): Promise<number> {
    if (mix.decode < 2 || tokens < 4) return 1;
    const factors: number[] = [];
    for (const part of [0.4, 0.6]) {
      const attentionShare = Math.max(1, Math.round(part * workgroups));
      // On no grid: the halves are those that the prediction is for.
      const boundary = Math.ceil(tokens / 2);
      const pipeline = overlap(graph, rows, workgroups, { boundary, attentionShare, cut: 1 });
      const times = await of(mix, pipeline, 'call');
      const expected = expectedBeside(table, rows, boundary, attentionShare / workgroups);
      for (const [label, us] of times) {
        if (/gate_up \| .*attention16/.test(label) && expected > 0) factors.push(us / expected);
      }
      tell(`both, attention on ${attentionShare}`);
    }
    factors.sort((a, b) => a - b);
    return factors.length > 0 ? Math.min(2, Math.max(1, factors[factors.length >> 1])) : 1;
  }
}

/**
 * us of a stage of up_gate beside all decode attention of the other nano-batch, without contention: the mean over the
 * nano-batches that have such a stage, because their stages have the same label.
 */
export function expectedBeside(table: StageProfile, rows: Rows, boundary: number, share: number): number {
  const halves = halvesOf(rows, boundary);
  const times = halves.flatMap((half, at) => {
    const { decode } = halves[1 - at];
    if (decode === 0) return [];
    const product = interpolate(table.products.up_gate, half.rows);
    return [besideTime({ ...table, contention: 1 }, product, decode * table.decodeRow, share)];
  });
  return times.length > 0 ? times.reduce((a, b) => a + b, 0) / times.length : 0;
}

/**
 * us by label without the layer: of a layer, or of a call. A stage of a pipeline occurs once for each nano-batch and not
 * at all in some layer at the edge, so what one takes is only known per call.
 */
export function byOperation(
  timings: readonly CallTiming[],
  layers: number,
  per: 'layer' | 'call' = 'layer',
): Map<string, number> {
  const sums = new Map<string, { us: number; calls: number }>();
  for (const { label, microseconds } of timings) {
    if (!label.includes('layers.')) continue;
    const name = label.replaceAll(/layers\.\d+\./g, '');
    const { us, calls } = sums.get(name) ?? { us: 0, calls: 0 };
    sums.set(name, { us: us + microseconds, calls: calls + 1 });
  }
  return new Map([...sums].map(([name, { us, calls }]) => [name, us / (per === 'layer' ? layers : calls)]));
}

function medians(runs: readonly Map<string, number>[]): Map<string, number> {
  return new Map(
    [...runs[0].keys()].map((name) => {
      const list = runs.map((run) => run.get(name) ?? 0).sort((a, b) => a - b);
      return [name, list[list.length >> 1]];
    }),
  );
}
