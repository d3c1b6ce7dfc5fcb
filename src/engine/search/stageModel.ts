/**
 * What a layer costs as stages on one device, from a profile: what the search scores its candidates with, a few
 * microseconds each. Measured times decide in the end; the model only has to put candidates in a good order.
 */
import { arrange, decodeRowsIn, type Arrangement, type TokenRange } from '../pipeline/arrangement.ts';

/** Microseconds of operations alone, with the whole device. */
export interface StageProfile {
  workgroups: number; // of a joined dispatch: one for each core
  /** [rows, us] of each product of a layer, ascending. */
  products: Record<'kqv' | 'o' | 'up_gate' | 'down', readonly Point[]>;
  /** Norms, rope and merge of `rows` rows together. */
  small: readonly Point[];
  /** us of decode attention for a row with the profiled contexts, and of prefill attention for a row. */
  decodeRow: number;
  prefillRow: number;
  /** R -> P: speed of decode attention with a share of the workgroups, as a part of its speed with all. */
  attention: readonly Point[];
  /** How much slower each gets beside the other: both contend for the memory behind the cores. At least 1. */
  contention: number;
}

export type Point = readonly [at: number, value: number];

/** Linear between the points, proportional below the first, on along the last line above. */
export function interpolate(points: readonly Point[], at: number): number {
  if (points.length === 0) return 0;
  const [first, value] = points[0];
  if (at <= first) return (value * at) / first;
  let i = 1;
  while (i < points.length - 1 && points[i][0] < at) i++;
  if (points.length === 1) return (value * at) / first;
  const [x0, y0] = points[i - 1];
  const [x1, y1] = points[i];
  return Math.max(0, y0 + ((at - x0) * (y1 - y0)) / (x1 - x0));
}

/** P(R), at most 1. */
export function attentionSpeed(profile: StageProfile, share: number): number {
  return Math.min(1, Math.max(1e-3, interpolate(profile.attention, share)));
}

/**
 * A product of `product` us beside attention of `attention` us (both alone) that has `share` of the device. The product's
 * tiles are drawn by ticket, so workgroups that are done with attention help; those of the product cannot.
 */
export function besideTime(profile: StageProfile, product: number, attention: number, share: number): number {
  if (attention === 0) return product;
  if (product === 0) return attention / attentionSpeed(profile, share);
  const { contention } = profile;
  const attended = (attention / attentionSpeed(profile, share)) * contention;
  const done = (attended * (1 - share)) / contention;
  return done >= product ? attended : attended + product - done;
}

/** One member of the overlap family (pipeline/presets.ts). */
export interface OverlapChoice {
  boundary: number;
  attentionShare: number; // workgroups
  cut: number;
  /** How the rows of the batch stand; default 'decode-first'. */
  arrangement?: Arrangement;
}

export interface Rows {
  tokens: number;
  decodeTokens: number;
}

/** us of a layer in the plain order. */
export function plainTime(profile: StageProfile, { tokens, decodeTokens }: Rows): number {
  const { products, small } = profile;
  const product = (Object.keys(products) as (keyof typeof products)[]).reduce(
    (sum, name) => sum + interpolate(products[name], tokens),
    0,
  );
  return (
    product +
    interpolate(small, tokens) +
    decodeTokens * profile.decodeRow +
    (tokens - decodeTokens) * profile.prefillRow
  );
}

/** us of a layer of the overlap pipeline in its steady state. */
export function overlapTime(profile: StageProfile, rows: Rows, choice: OverlapChoice): number {
  const { products, small, workgroups } = profile;
  const share = choice.attentionShare / workgroups;
  const halves = halvesOf(rows, choice.boundary, choice.arrangement);
  let time = 0;
  halves.forEach((half, at) => {
    const other = halves[1 - at];
    const attention = other.decode * profile.decodeRow;
    time +=
      interpolate(products.kqv, half.rows) +
      interpolate(products.o, half.rows) +
      interpolate(small, half.rows) +
      half.prefill * profile.prefillRow +
      besideTime(profile, interpolate(products.up_gate, half.rows), attention * choice.cut, share) +
      besideTime(profile, interpolate(products.down, half.rows), attention * (1 - choice.cut), share);
  });
  return time;
}

/** Rows, and how many of them decode and prefill, of both nano-batches. */
export function halvesOf(
  rows: Rows,
  boundary: number,
  arrangement?: Arrangement,
): { rows: number; decode: number; prefill: number }[] {
  const arranged = arrange(rows, boundary, arrangement);
  const ranges: TokenRange[] = [
    [0, boundary],
    [boundary, rows.tokens],
  ];
  return ranges.map(([start, end]) => {
    const decode = decodeRowsIn(arranged, [start, end]);
    return { rows: end - start, decode, prefill: end - start - decode };
  });
}

/** Boundaries worth a look: the grid, and the border between decode and prefill rows. */
export function boundaries({ tokens, decodeTokens }: Rows, grid: number): number[] {
  const found = new Set<number>();
  for (let at = grid; at < tokens; at += grid) found.add(at);
  if (decodeTokens > 0 && decodeTokens < tokens) found.add(decodeTokens);
  if (found.size === 0 && tokens > 1) found.add(Math.ceil(tokens / 2));
  return [...found].sort((a, b) => a - b);
}
