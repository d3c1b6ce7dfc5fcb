/**
 * The overlap of a layer that several GPUs share: network operations of one nano-batch beside the matrix products of
 * the other, decode attention beside K, Q, V and O (NanoFlow, OSDI '25, figure 6, and its published pipeline for
 * LLaMA-2-70B). Two nano-batches; K, Q, V and attention are split further, so that attention starts early.
 */
import type { Operation, OperationGraph, OperationName } from '../model/graph.ts';
import type { Arrangement } from './arrangement.ts';
import { layerOperations, rowsOfOperation, type NanoRange } from './dependencies.ts';
import type { Pipeline } from './pipeline.ts';
import type { BatchRows, TokenRange } from './resolve.ts';
import { assemble, splitOperations } from './split.ts';

const GRID = 128;

/** R of NanoFlow's pipeline for LLaMA-2-70B, as fractions of the device. */
const R = {
  kqv: 0.4,
  attention: 0.4,
  prefill: 0.6,
  collective: 0.2, // beside K, Q, V, O and attention
  reduce: 0.1, // beside the feed-forward
  o1: 0.6,
  o2: 0.8,
  feedForward: 0.9,
};

export interface ParallelOptions {
  /** First row of the second nano-batch; default a third of the rows, on the grid. */
  boundary?: number;
  /** Rows in the first of the two K, Q, V operations of each nano-batch; default half of them, on the grid. */
  kqv1?: number;
  kqv3?: number;
  grid?: number;
  /** 'halves' is an error here: collectives hide behind products, not decode attention. */
  arrangement?: Arrangement;
  name?: string;
  /** The published splits are of one GPU's workgroups: fractions to use instead. */
  fractions?: Partial<typeof R>;
}

/**
 * Stage list and shares for a graph with ranks. Where the graph has both output paths, nano-batch 1 gathers and
 * nano-batch 2 reduces, as published; otherwise both take the graph's.
 * @throws Error for boundaries outside the batch.
 */
export function parallelOverlap(
  graph: OperationGraph,
  batch: BatchRows,
  workgroups: number,
  options: ParallelOptions,
): Pipeline {
  if (options.arrangement === 'halves' || batch.halves) {
    throw new Error(
      `the graph is for ${graph.options.ranks} ranks; halves are for one device: leave the arrangement out`,
    );
  }
  const cuts = parallelCuts(batch, options);
  const { boundary } = cuts;
  const both = graph.options.outputPath === 'both';
  const nano = splitOperations(graph, batch, cutsOf(cuts), (operation) => {
    if (!both || !operation.path) return rowsOfOperation(operation, batch);
    return [operation.path === 'gather' ? [0, boundary] : [boundary, batch.tokens]];
  });
  const lines = parallelLines(graph, nano, cuts, batch);
  const fractions = { ...R, ...options.fractions };
  const shareOf = (each: NanoRange): number =>
    Math.max(1, Math.min(workgroups, Math.round(workgroups * fraction(each, boundary, fractions))));
  const stages = lines
    .filter((line) => line.length > 0)
    .flatMap((line) => fitting(line, shareOf, workgroups))
    .map((line) => ({ members: line.map(({ nano: { id }, layer }) => ({ id, layer })) }));
  const { name = 'overlap' } = options;
  return assemble({ name, graph, batch, workgroups, nano, stages, shareOf, notes: { ...cuts } });
}

interface Cuts {
  boundary: number;
  /** Where K, Q, V of nano-batches 1 and 2 are cut again; equal to an end of the nano-batch for no cut. */
  first: number;
  second: number;
}

function parallelCuts({ tokens }: BatchRows, options: ParallelOptions): Cuts {
  const { grid = GRID } = options;
  const snap = (rows: number, most: number): number => {
    const snapped = Math.round(rows / grid) * grid;
    return snapped > 0 && snapped < most ? snapped : Math.ceil(rows);
  };
  const boundary = options.boundary ?? snap(tokens / 3, tokens);
  const kqv1 = options.kqv1 ?? snap(boundary / 2, boundary);
  const kqv3 = options.kqv3 ?? snap((tokens - boundary) / 2, tokens - boundary);
  const first = kqv1;
  const second = boundary + kqv3;
  const ordered = 0 < first && first <= boundary && boundary < second && second <= tokens;
  if ([boundary, first, second].every(Number.isInteger) && (ordered || (tokens === 1 && boundary === 1))) {
    return { boundary, first, second };
  }
  throw new Error(
    `boundary is ${boundary}, kqv1 ${kqv1} and kqv3 ${kqv3} for ${tokens} tokens; expected ` +
      `0 < kqv1 <= boundary and 0 < kqv3 <= tokens - boundary: move the cuts inside the batch`,
  );
}

function cutsOf({ boundary, first, second }: Cuts): (operation: Operation) => number[] {
  return ({ name }) => {
    switch (name) {
      case 'kqv':
      case 'rope_append':
      case 'decode_attention':
        return [first, boundary, second];
      case 'prefill_attention':
        return [];
      case 'norm1':
      case 'down_reduce':
        return [boundary, second];
      default:
        return [boundary];
    }
  };
}

function fraction({ operation, range }: NanoRange, boundary: number, r: typeof R): number {
  switch (operation) {
    case 'kqv':
      return r.kqv;
    case 'decode_attention':
      return r.attention;
    case 'prefill_attention':
      return r.prefill;
    case 'o':
      return range[0] < boundary ? r.o1 : r.o2;
    case 'attention_gather':
    case 'o_gather':
      return r.collective;
    case 'o_reduce':
      return r.reduce;
    case 'down_reduce':
      return range[0] < boundary ? r.reduce : r.collective;
    case 'norm1':
    case 'norm2':
    case 'rope_append':
    case 'merge':
      return r.reduce; // short; beside anything
    default:
      return r.feedForward;
  }
}

interface Placed {
  nano: NanoRange;
  layer: 0 | 1;
}

/**
 * Lines of one layer. The list starts in the middle of K, Q, V, because what comes before runs beside the all-reduce
 * of the layer before.
 */
function parallelLines(
  graph: OperationGraph,
  nano: readonly NanoRange[],
  { boundary, first, second }: Cuts,
  { tokens, decodeTokens }: BatchRows,
): Placed[][] {
  const rows: TokenRange[] = [
    [0, first],
    [first, boundary],
    [boundary, second],
    [second, tokens],
  ];
  const within = ([start, end]: TokenRange, names: OperationName[], layer: 0 | 1 = 0): Placed[] =>
    nano
      .filter(({ operation, range }) => names.includes(operation) && range[0] >= start && range[1] <= end)
      .map((each) => ({ nano: each, layer }));
  const one: TokenRange = [0, boundary];
  const two: TokenRange = [boundary, tokens];
  const quarter = (i: number, layer: 0 | 1, ...names: OperationName[]): Placed[] =>
    rows[i][0] < rows[i][1] ? within(rows[i], names, layer) : [];
  const tail = (layer: 0 | 1, ...names: OperationName[]): Placed[] => within([0, tokens], names, layer);
  const nano1 = (...names: OperationName[]): Placed[] => within(one, names);
  const nano2 = (...names: OperationName[]): Placed[] => within(two, names);
  const merges = layerOperations(graph).has('merge') ? tail(0, 'merge').map((each) => [each]) : [];
  const earlyGather = boundary <= decodeTokens && merges.length === 0;
  const gather = nano1('attention_gather');
  return [
    [...quarter(1, 0, 'rope_append'), ...within([boundary, second], ['norm1'])],
    [...quarter(2, 0, 'kqv'), ...quarter(1, 0, 'decode_attention')],
    [...quarter(2, 0, 'rope_append'), ...within([second, tokens], ['norm1'])],
    [...quarter(3, 0, 'kqv'), ...quarter(2, 0, 'decode_attention'), ...(earlyGather ? gather : [])],
    quarter(3, 0, 'rope_append'),
    earlyGather ? [...nano1('o'), ...quarter(3, 0, 'decode_attention')] : quarter(3, 0, 'decode_attention'),
    [...tail(0, 'prefill_attention'), ...(earlyGather ? nano1('o_gather', 'o_reduce') : [])],
    ...merges,
    ...(earlyGather ? [] : [gather, nano1('o')]),
    [...nano2('attention_gather'), ...(earlyGather ? [] : nano1('o_gather', 'o_reduce'))],
    [...nano2('o'), ...nano1('norm2')],
    ...feedForward(nano1, nano2('o_gather', 'o_reduce')),
    nano2('norm2'),
    ...feedForward(nano2, nano1('down_reduce')),
    within(one, ['norm1'], 1),
    [...quarter(0, 1, 'kqv'), ...within([boundary, second], ['down_reduce'])],
    quarter(0, 1, 'rope_append'),
    [
      ...quarter(1, 1, 'kqv'),
      ...quarter(0, 1, 'decode_attention'),
      ...within([second, tokens], ['down_reduce']),
    ],
  ];
}

/** A nano-batch's feed-forward with a collective of the other beside its largest product. */
function feedForward(of: (...names: OperationName[]) => Placed[], beside: Placed[]): Placed[][] {
  return [
    of('router'),
    of('route'),
    [...of('up_gate', 'experts_up_gate'), ...beside],
    of('activation'),
    of('down', 'experts_down'),
    of('combine'),
  ];
}

/** A line in as many parts as its shares need. */
function fitting(line: Placed[], shareOf: (nano: NanoRange) => number, workgroups: number): Placed[][] {
  const parts: Placed[][] = [];
  let used = Infinity;
  for (const each of line) {
    const share = shareOf(each.nano);
    if (used + share > workgroups) {
      parts.push([]);
      used = 0;
    }
    parts[parts.length - 1].push(each);
    used += share;
  }
  return parts;
}
