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
import { besideTime, type Point, type StageProfile } from './stageModel.ts';

export interface ProfileOptions {
  /** Profiled runs of each batch; figures are medians. */
  runs?: number;
  progress?: (done: number, all: number, what: string) => void;
}

/** Labels of a layer's calls (model/program.ts) by what they are profiled as. */
const PRODUCTS = { kqv: 'qkv', o: 'o', up_gate: 'gate_up', down: 'down' } as const;
const SMALL = /^(norm1|norm2|rope_append|merge|silu_mul)$/;

/** Workgroups of a joined dispatch: parts with many registers have one for each core. */
export function coreWorkgroups({
  kind,
  software,
  defaultWorkgroups,
}: ModelRunner['device']['target']): number {
  return software || kind === 'cpu' ? Math.max(2, defaultWorkgroups) : Math.round(defaultWorkgroups / 2);
}

/**
 * @param mix the batch that the search is for: contexts come from it, and no size is larger
 * @throws Error when the device has no timestamps.
 */
export async function profileModel(
  runner: ModelRunner,
  mix: BatchMix,
  { runs = 3, progress }: ProfileOptions = {},
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
  const of = async (batchMix: BatchMix, pipeline?: Pipeline): Promise<Map<string, number>> => {
    const batch = mixBatch(runner, batchMix);
    runner.usePipelines(() => pipeline);
    try {
      await (await runner.launch(batch, [])).collect();
      await runner.profileLast(); // drivers do much at the first one, and clocks rise
      const seen: Map<string, number>[] = [];
      for (let run = 0; run < runs; run++) seen.push(byOperation(await runner.profileLast(), layers));
      return medians(seen);
    } finally {
      runner.usePipelines(undefined);
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
      const times = await of(mix, overlap(graph, rows, workgroups, { attentionShare, cut: 1 }));
      for (const [label, us] of times) {
        if (!/gate_up \| .*attention16/.test(label)) continue;
        const boundary = Math.round(tokens / 2);
        const attended = Math.max(mix.decode - boundary, Math.min(mix.decode, boundary)) * table.decodeRow;
        const alone = besideTime(
          table,
          times.get('gate_up') ?? interpolated(table, boundary),
          attended,
          part,
        );
        if (alone > 0) factors.push(us / alone);
      }
      tell(`both, attention on ${attentionShare}`);
    }
    factors.sort((a, b) => a - b);
    return factors.length > 0 ? Math.min(2, Math.max(1, factors[factors.length >> 1])) : 1;
  }
}

function interpolated({ products }: StageProfile, rows: number): number {
  const found = products.up_gate.find(([at]) => at >= rows);
  return found ? found[1] : 0;
}

/** us of a layer, by label without the layer: the mean over layers. */
function byOperation(timings: readonly CallTiming[], layers: number): Map<string, number> {
  const sums = new Map<string, number>();
  for (const { label, microseconds } of timings) {
    if (!label.includes('layers.')) continue;
    const name = label.replaceAll(/layers\.\d+\./g, '');
    sums.set(name, (sums.get(name) ?? 0) + microseconds);
  }
  for (const [name, us] of sums) sums.set(name, us / layers);
  return sums;
}

function medians(runs: readonly Map<string, number>[]): Map<string, number> {
  return new Map(
    [...runs[0].keys()].map((name) => {
      const list = runs.map((run) => run.get(name) ?? 0).sort((a, b) => a - b);
      return [name, list[list.length >> 1]];
    }),
  );
}
