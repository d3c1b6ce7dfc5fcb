/**
 * Which nano-operations wait for which: those of dependent operations whose token ranges intersect, also across layers
 * (NanoFlow, OSDI '25, section 4.1).
 */
import type { Operation, OperationGraph, OperationName } from '../model/graph.ts';
import { blocksOf, type BatchRows, type TokenRange } from './arrangement.ts';
import type { NanoOperation } from './pipeline.ts';

export type NanoRange = Pick<NanoOperation, 'id' | 'operation' | 'range'>;
export type Dependency = NanoOperation['after'][number];

/** Operations of a layer, by name. */
export function layerOperations(graph: OperationGraph): Map<OperationName, Operation> {
  return new Map(graph.operations.filter(({ scope }) => scope === 'layer').map((each) => [each.name, each]));
}

/** Rows of a batch that an operation works on: all, or the blocks of one kind that have rows. */
export function rowsOfOperation({ rows }: Operation, batch: BatchRows): TokenRange[] {
  if (rows !== 'decode' && rows !== 'prefill') return [[0, batch.tokens]];
  return blocksOf(batch)
    .filter(({ kind, range: [start, end] }) => kind === rows && start < end)
    .map(({ range }) => range);
}

export function intersects([a, b]: TokenRange, [c, d]: TokenRange): boolean {
  return a < d && c < b;
}

/** Everything that `nano` waits for directly, in the order of `all`. */
export function dependenciesOf(
  operations: ReadonlyMap<OperationName, Operation>,
  all: readonly NanoRange[],
  { operation, range }: NanoRange,
): Dependency[] {
  const parents = operations.get(operation)?.parents ?? [];
  return all.flatMap((other) =>
    parents
      .filter((parent) => parent.operation === other.operation)
      .filter(({ rows }) => intersects(other.range, rows === 'same' ? range : [0, range[1]]))
      .map(({ layer }) => ({ id: other.id, layer })),
  );
}
