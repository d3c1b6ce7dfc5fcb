/** Whether the nano-operations of each operation cover its rows once. */
import type { Operation, OperationName, OutputPath } from '../model/graph.ts';
import { rowsOfOperation } from './dependencies.ts';
import type { Pipeline } from './pipeline.ts';
import type { TokenRange } from './resolve.ts';

export function coverageProblems(
  pipeline: Pipeline,
  operations: ReadonlyMap<OperationName, Operation>,
): string[] {
  const problems: string[] = [];
  const ranges = (...names: OperationName[]): TokenRange[] =>
    pipeline.nano
      .filter(({ operation }) => names.includes(operation))
      .map(({ range }) => range)
      .sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const paths = new Map<OutputPath, { name: OperationName; ranges: TokenRange[] }[]>();
  for (const operation of operations.values()) {
    const { name, path, splitAs } = operation;
    const own = ranges(name);
    if (splitAs) {
      const wanted = ranges(...splitAs);
      if (text(own) !== text(wanted)) {
        problems.push(
          `${name} has rows ${text(own)}, expected those of ${splitAs.join(' and ')}, ${text(wanted)}: one for each`,
        );
      }
    } else if (path) {
      paths.set(path, [...(paths.get(path) ?? []), { name, ranges: own }]);
    } else problems.push(...tiling(name, own, rowsOfOperation(operation, pipeline)));
  }
  problems.push(...pathProblems(paths, pipeline.tokens));
  return problems;
}

/** Operations of one output path have the same rows; those of both paths together are all rows. */
function pathProblems(
  paths: ReadonlyMap<OutputPath, readonly { name: OperationName; ranges: TokenRange[] }[]>,
  tokens: number,
): string[] {
  if (paths.size === 0) return [];
  const problems: string[] = [];
  const all: TokenRange[] = [];
  const names: string[] = [];
  for (const [{ name, ranges }, ...others] of paths.values()) {
    all.push(...ranges);
    names.push(name);
    for (const other of others) {
      if (text(joined(other.ranges)) !== text(joined(ranges))) {
        problems.push(
          `${other.name} covers ${text(other.ranges)}, expected the rows of ${name}, ${text(ranges)}: they are one path`,
        );
      }
      problems.push(...overlaps(other.name, other.ranges));
    }
  }
  all.sort((a, b) => a[0] - b[0]);
  return [...problems, ...tiling(names.join(' and '), all, [[0, tokens]])];
}

function tiling(name: string, ranges: readonly TokenRange[], rows: readonly TokenRange[]): string[] {
  const twice = overlaps(name, ranges);
  if (twice.length > 0) return twice;
  const covered = text(joined(ranges));
  const wanted = text(joined(rows));
  if (covered === wanted) return [];
  return [`${name} covers rows ${covered}, expected ${wanted}: add or cut nano-operations`];
}

function overlaps(name: string, ranges: readonly TokenRange[]): string[] {
  return ranges
    .slice(1)
    .flatMap((range, i) =>
      range[0] < ranges[i][1]
        ? [
            `${name} covers some rows of ${text([ranges[i], range])} twice, expected each once: move a boundary`,
          ]
        : [],
    );
}

/** Ranges in order with those that touch made one. */
function joined(ranges: readonly TokenRange[]): TokenRange[] {
  const result: [number, number][] = [];
  for (const [start, end] of ranges) {
    const before = result.at(-1);
    if (before && before[1] === start) before[1] = end;
    else result.push([start, end]);
  }
  return result;
}

function text(ranges: readonly TokenRange[]): string {
  return ranges.length === 0 ? 'none' : ranges.map(([start, end]) => `[${start}, ${end})`).join(' ');
}
