/**
 * The pipelines that exist for every model (NanoFlow, OSDI '25, section 6.4): `non-overlap`, `nano-batch-only` and
 * `overlap`. They are made for a batch and resolve to others (resolve.ts).
 */
import type { Operation, OperationGraph, OperationName, Work } from '../model/graph.ts';
import { arrange, decodeRowsIn, type Arrangement, type BatchRows, type TokenRange } from './arrangement.ts';
import { layerOperations, rowsOfOperation, type NanoRange } from './dependencies.ts';
import type { Pipeline, Stage } from './pipeline.ts';
import { assemble, checkBatch, splitOperations } from './split.ts';
import { dealStages, type DealtStages, type Wanted } from './stages.ts';
import { parallelOverlap, type ParallelOptions } from './tensorParallel.ts';

/** Rows that nano-batches start on multiples of: shorter tiles leave cores of a matrix product idle. */
const GRID = 64;
/** R of decode attention in NanoFlow's pipelines; it reaches 80 % of its speed there (table 3). */
const ATTENTION_SHARE = 0.4;
/** up_gate is two thirds of the feed-forward's arithmetic. */
const CUT = 2 / 3;

export interface OverlapOptions {
  /** First row of the second nano-batch; default halves the rows, on the grid. */
  boundary?: number;
  grid?: number;
  /** Workgroups of attention beside products of the feed-forward, which get the rest. */
  attentionShare?: number;
  /** Fraction of the decode rows of a nano-batch that are attended beside up_gate; the rest beside down. */
  cut?: number;
  /**
   * Prompt rows are attended beside down, on the cores of decode attention, which then is all beside up_gate (cut 1).
   * Default: alone, with all cores.
   */
  prefillBeside?: true;
  /** Attention's cores are kept apart from all others by the driver (Pipeline.greenContexts). */
  greenContexts?: true;
  /** Attention shares the cores of the product beside it (Stage.colocated): both get the whole device. */
  colocated?: boolean;
  /** 'halves': both nano-batches have decode and prompt rows, in proportion to their rows. Default 'decode-first'. */
  arrangement?: Arrangement;
  /** Fraction of the rows in the first nano-batch, where `boundary` is left out; default a half. On the grid. */
  firstHalf?: number;
  name?: string;
}

/** Every operation at once on the whole device, one after the other. */
export function nonOverlap(graph: OperationGraph, batch: BatchRows, workgroups: number): Pipeline {
  checkBatch(batch, workgroups);
  // Where a graph has both output paths, one is enough.
  const nano = splitOperations(
    graph,
    batch,
    () => [],
    (operation) => (onlyReduces(graph, operation) ? [] : rowsOfOperation(operation, batch)),
  );
  const stages = nano.map(({ id }) => ({ members: [{ id, layer: 0 as const }] }));
  return assemble({ name: 'non-overlap', graph, batch, workgroups, nano, stages, shareOf: () => workgroups });
}

function onlyReduces({ options }: OperationGraph, { path }: Operation): boolean {
  return options.outputPath === 'both' && path === 'reduce';
}

/** The splits and the order of `overlap` with nothing side by side: what splitting alone costs. */
export function nanoBatchOnly(
  graph: OperationGraph,
  batch: BatchRows,
  workgroups: number,
  options: OverlapOptions & ParallelOptions = {},
): Pipeline {
  return inSequence(overlap(graph, batch, workgroups, { cut: 1, ...options, name: 'nano-batch-only' }));
}

/** The same pipeline with a stage for each nano-operation, which gets the whole device. */
export function inSequence(pipeline: Pipeline): Pipeline {
  return {
    ...pipeline,
    nano: pipeline.nano.map((nano) => ({ ...nano, share: pipeline.workgroups })),
    stages: pipeline.stages.flatMap(({ members }) => members.map((member) => ({ members: [member] }))),
  };
}

/**
 * Two nano-batches half a layer apart: the attention of one runs beside the feed-forward of the other, and K, Q and V
 * of one beside O of the other. Under tensor parallelism: tensorParallel.ts.
 * @throws Error for a boundary or a share outside the batch or the device.
 */
export function overlap(
  graph: OperationGraph,
  batch: BatchRows,
  workgroups: number,
  options: OverlapOptions & ParallelOptions = {},
): Pipeline {
  checkBatch(batch, workgroups);
  if (graph.options.ranks > 1) return parallelOverlap(graph, batch, workgroups, options);
  const { prefillBeside = false, name = 'overlap' } = options;
  const { cut = prefillBeside ? 1 : CUT, attentionShare = Math.round(ATTENTION_SHARE * workgroups) } =
    options;
  if (prefillBeside && cut !== 1) {
    throw new Error(`got cut ${cut} with prefillBeside, expected 1: prompts take the place beside down`);
  }
  const boundary = boundaryOf(batch, options);
  const rows = arrange(batch, boundary, options.arrangement);
  if (attentionShare < 0 || attentionShare > workgroups || !(cut >= 0 && cut <= 1)) {
    throw new Error(
      `attentionShare is ${attentionShare} and cut ${cut}; expected at most the device's ${workgroups} workgroups ` +
        'and a fraction from 0 to 1: lower them',
    );
  }
  const halves: TokenRange[] = [
    [0, boundary],
    [boundary, batch.tokens],
  ];
  // Decode rows stand first in both of them.
  const beside = halves.map((half) => half[0] + Math.round(decodeRowsIn(rows, half) * cut));
  const nano = splitOperations(graph, rows, ({ name: operation }) =>
    operation === 'decode_attention' ? [boundary, ...beside] : [boundary],
  );
  const weights = [attentionShare, workgroups - attentionShare] as const;
  const lines = overlapLines(graph, nano, halves, beside, weights, prefillBeside);
  const dealt = dealStages(lines, workgroups);
  const { stages, shares } = options.colocated ? colocate(dealt, workgroups) : dealt;
  const shareOf = ({ id }: NanoRange): number => shares.get(id)!;
  const made = assemble({
    name,
    graph,
    batch: rows,
    workgroups,
    nano,
    stages,
    shareOf,
    notes: options.colocated ? { boundary, colocated: 1 } : { boundary, attentionShare },
  });
  return options.greenContexts ? { ...made, greenContexts: true } : made;
}

/** Products beside decode attention, each with the whole device. */
function colocate({ stages, shares }: DealtStages, workgroups: number): DealtStages {
  const all = new Map(shares);
  const together = stages.map((stage): Stage => {
    const attends = stage.members.some(({ id }) => id.startsWith('decode_attention.'));
    if (stage.members.length === 1 || !attends) return stage;
    for (const { id } of stage.members) all.set(id, workgroups);
    return { ...stage, colocated: true };
  });
  return { stages: together, shares: all };
}

/** @throws Error when the boundary leaves a nano-batch empty */
function boundaryOf({ tokens }: BatchRows, options: OverlapOptions): number {
  const { boundary, firstHalf = 1 / 2, grid = GRID } = options;
  if (!(firstHalf > 0 && firstHalf < 1)) {
    throw new Error(`firstHalf is ${firstHalf}; expected a fraction between 0 and 1: leave rows to both`);
  }
  if (boundary !== undefined) {
    if (Number.isInteger(boundary) && boundary > 0 && boundary < tokens) return boundary;
    throw new Error(
      `boundary is ${boundary}; expected a row strictly between 0 and the batch's ${tokens} tokens: move it inside`,
    );
  }
  const wanted = tokens * firstHalf;
  const snapped = Math.round(wanted / grid) * grid;
  return snapped > 0 && snapped < tokens ? snapped : Math.min(Math.ceil(wanted), Math.max(1, tokens - 1));
}

type Half = 0 | 1;

/** The lines of a layer: first the feed-forward of A (half 0) and the attention of B, then the other way round. */
function overlapLines(
  graph: OperationGraph,
  nano: readonly NanoRange[],
  halves: readonly TokenRange[],
  beside: readonly number[],
  [attentionShare, productShare]: readonly [number, number],
  prefillBeside: boolean,
): Wanted[][] {
  const operations = layerOperations(graph);
  const find = (half: Half, layer: 0 | 1, weight: number, ...names: OperationName[]): Wanted[] => {
    const [start, end] = halves[half];
    return nano
      .filter(({ operation, range }) => names.includes(operation) && range[0] >= start && range[1] <= end)
      .map((each) => ({ nano: each, layer, weight }));
  };
  const flops = (name: OperationName, [start, end]: TokenRange): number =>
    operations.get(name)?.cost(rowsOnly(end - start)).flops ?? 0;

  /** The feed-forward of one half and its next K, Q, V; attention and O of the other, which is in `layer`. */
  const side = (ahead: Half, behind: Half, layer: 0 | 1): Wanted[][] => {
    const attended = find(behind, layer, attentionShare, 'decode_attention');
    const first = attended.filter(({ nano: { range } }) => range[1] <= beside[behind]);
    const second = attended.filter(({ nano: { range } }) => range[1] > beside[behind]);
    const prompts = find(behind, layer, attentionShare, 'prefill_attention');
    const [merge, ...merges] = find(behind, layer, 1, 'merge');
    const product = (...names: OperationName[]): Wanted[] => find(ahead, 0, productShare, ...names);
    return [
      product('router'),
      product('route'),
      [...product('up_gate', 'experts_up_gate'), ...first],
      product('activation'),
      [...product('down', 'experts_down'), ...second, ...(prefillBeside ? prompts : [])],
      product('combine'),
      prefillBeside ? [] : prompts,
      [...find(ahead, 1, 1, 'norm1'), ...(merge ? [merge] : [])],
      // Merges of one nano-batch write to the same buffer, so they cannot share a dispatch.
      ...merges.map((each) => [each]),
      [
        ...find(ahead, 1, flops('kqv', halves[ahead]), 'kqv'),
        ...find(behind, layer, flops('o', halves[behind]), 'o'),
      ],
      [...find(ahead, 1, 1, 'rope_append'), ...find(behind, layer, 1, 'norm2')],
    ];
  };
  return [...side(0, 1, 0), ...side(1, 0, 1)];
}

function rowsOnly(tokens: number): Work {
  return { tokens, decodeTokens: 0, decodeKv: 0, prefillKv: 0, prefillPairs: 0, samples: 0 };
}
