/** Nano-operations from token ranges: one list of ranges for each operation gives ids, lanes and dependencies. */
import { LANES, type Operation, type OperationGraph } from '../model/graph.ts';
import { halvesProblem, type BatchRows, type TokenRange } from './arrangement.ts';
import { dependenciesOf, layerOperations, rowsOfOperation, type NanoRange } from './dependencies.ts';
import {
  PIPELINE_FORMAT,
  PIPELINE_VERSION,
  type NanoOperation,
  type Pipeline,
  type Stage,
} from './pipeline.ts';

/**
 * Where an operation is cut: row numbers strictly inside the rows that it covers, in any order; those outside are
 * ignored. Merges have no say: they are those of their attention.
 */
export type CutsOf = (operation: Operation) => readonly number[];

/** Rows that an operation covers, for operations of one of two output paths; default all rows of its kind. */
export type CoverOf = (operation: Operation) => readonly TokenRange[];

/** [start, end) in parts that end at the cuts inside it. */
export function cutRange([start, end]: TokenRange, cuts: readonly number[]): TokenRange[] {
  const inside = [...new Set(cuts)].filter((cut) => cut > start && cut < end).sort((a, b) => a - b);
  const ends = [...inside, end];
  return start < end ? ends.map((stop, i) => [i === 0 ? start : ends[i - 1], stop]) : [];
}

/** The nano-operations of a layer, in the order of the graph, and of rows within an operation. */
export function splitOperations(
  graph: OperationGraph,
  batch: BatchRows,
  cutsOf: CutsOf,
  coverOf: CoverOf = (operation) => rowsOfOperation(operation, batch),
): NanoRange[] {
  const nano: NanoRange[] = [];
  for (const operation of layerOperations(graph).values()) {
    const { name, splitAs } = operation;
    const ranges = splitAs
      ? nano.filter((other) => splitAs.includes(other.operation)).map(({ range }) => range)
      : coverOf(operation).flatMap((cover) => cutRange(cover, cutsOf(operation)));
    [...ranges]
      .sort((a, b) => a[0] - b[0])
      .forEach((range, i) => nano.push({ id: `${name}.${i + 1}`, operation: name, range }));
  }
  return nano;
}

export interface Assembly {
  name: string;
  graph: OperationGraph;
  batch: BatchRows;
  workgroups: number;
  nano: readonly NanoRange[];
  stages: readonly Stage[];
  shareOf: (nano: NanoRange) => number;
  notes?: Pipeline['notes'];
}

/** A Pipeline of these parts: lanes and dependencies are the graph's, the order of issue is that of the stages. */
export function assemble(parts: Assembly): Pipeline {
  const { graph, batch, nano, stages, shareOf, notes } = parts;
  const operations = layerOperations(graph);
  const place = new Map<string, number>();
  stages.forEach(({ members }, at) => {
    members.forEach(({ id, layer }) => place.set(id, at + layer * stages.length));
  });
  const made = nano.map((each): NanoOperation => {
    const { lane } = operations.get(each.operation)!;
    const after = dependenciesOf(operations, nano, each);
    return { ...each, lane, share: shareOf(each), after };
  });
  const rank = ({ id, lane }: NanoOperation): number => place.get(id)! * LANES.length + LANES.indexOf(lane);
  return {
    format: PIPELINE_FORMAT,
    version: PIPELINE_VERSION,
    name: parts.name,
    model: graph.model.name,
    device: 'any',
    ranks: graph.options.ranks,
    tokens: batch.tokens,
    decodeTokens: batch.decodeTokens,
    ...(batch.halves && { halves: batch.halves }),
    workgroups: parts.workgroups,
    nano: made.sort((a, b) => rank(a) - rank(b)),
    stages,
    ...(notes && { notes }),
  };
}

/** @throws Error when no pipeline can be made for such a batch or device. */
export function checkBatch({ tokens, decodeTokens, halves }: BatchRows, workgroups: number): void {
  const whole = [tokens, decodeTokens, workgroups].every(Number.isInteger);
  if (whole && tokens >= 1 && decodeTokens >= 0 && decodeTokens <= tokens && workgroups >= 1) {
    const problem = halvesProblem({ tokens, decodeTokens, halves });
    if (problem) throw new Error(problem);
    return;
  }
  throw new Error(
    `got a batch of ${tokens} tokens, ${decodeTokens} of them decode, on ${workgroups} workgroups; ` +
      'expected at least one token and one workgroup, and no more decode tokens than tokens: correct the batch',
  );
}
