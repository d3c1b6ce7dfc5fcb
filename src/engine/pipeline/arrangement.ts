/**
 * How the rows of a dense batch stand: decode rows, then prompt rows (as the scheduler forms it), or two such runs,
 * [D1 P1 D2 P2], so that each of two nano-batches has a part of both: attention of one half of the decode rows can then
 * hide behind the products of the other half. The order within decode rows and within prompt rows never changes; a
 * prompt chunk may be cut between P1 and P2.
 */
export type TokenRange = readonly [start: number, end: number];

export type Arrangement = 'decode-first' | 'halves';

/** Rows of the first half: D1 and P1. */
export interface Halves {
  decode: number;
  prefill: number;
}

/** Rows of a batch by kind. Without `halves`, decode rows come first. */
export interface BatchRows {
  tokens: number;
  decodeTokens: number;
  halves?: Halves;
}

/** Rows of one kind that stand together. */
export interface Block {
  kind: 'decode' | 'prefill';
  range: TokenRange;
}

/** The blocks of a batch in order of rows; some may be empty. */
export function blocksOf({ tokens, decodeTokens, halves }: BatchRows): Block[] {
  if (!halves) {
    return [
      { kind: 'decode', range: [0, decodeTokens] },
      { kind: 'prefill', range: [decodeTokens, tokens] },
    ];
  }
  const first = halves.decode + halves.prefill;
  const second = first + decodeTokens - halves.decode;
  return [
    { kind: 'decode', range: [0, halves.decode] },
    { kind: 'prefill', range: [halves.decode, first] },
    { kind: 'decode', range: [first, second] },
    { kind: 'prefill', range: [second, tokens] },
  ];
}

/** What is wrong with the halves of a batch whose other numbers are right. */
export function halvesProblem({ tokens, decodeTokens, halves }: BatchRows): string | undefined {
  if (!halves) return undefined;
  const { decode, prefill } = halves;
  const fits = (rows: number, most: number): boolean => Number.isInteger(rows) && rows >= 0 && rows <= most;
  if (fits(decode, decodeTokens) && fits(prefill, tokens - decodeTokens)) return undefined;
  return (
    `its first half has ${decode} decode rows and ${prefill} prompt rows, expected whole numbers of at most ` +
    `${decodeTokens} and ${tokens - decodeTokens}: correct halves`
  );
}

/** Decode rows among rows [start, end). */
export function decodeRowsIn(rows: BatchRows, [start, end]: TokenRange): number {
  return blocksOf(rows).reduce(
    (sum, { kind, range }) =>
      kind === 'decode' ? sum + Math.max(0, Math.min(end, range[1]) - Math.max(start, range[0])) : sum,
    0,
  );
}

/**
 * Where the rows of a batch stand, in the order of the batch itself (decode rows, then prompt rows): one run when
 * nothing moves.
 */
export function rowRuns(rows: BatchRows): TokenRange[] {
  const blocks = blocksOf(rows);
  const runs: [number, number][] = [];
  for (const wanted of ['decode', 'prefill']) {
    for (const { kind, range } of blocks) {
      if (kind !== wanted || range[0] === range[1]) continue;
      const last = runs.at(-1);
      if (last?.[1] === range[0]) [, last[1]] = range;
      else runs.push([...range]);
    }
  }
  return runs;
}

/** The batch in this arrangement with `boundary` rows in the first half, of both kinds in proportion. */
export function arrange(
  { tokens, decodeTokens }: BatchRows,
  boundary: number,
  arrangement: Arrangement = 'decode-first',
): BatchRows {
  if (arrangement === 'decode-first') return { tokens, decodeTokens };
  const decode = Math.round((decodeTokens * boundary) / tokens);
  return { tokens, decodeTokens, halves: { decode, prefill: boundary - decode } };
}

/** `ranges`, cut where rows of one kind end and those of the other begin. Uncut where decode rows come first. */
export function withinBlocks(rows: BatchRows, ranges: readonly TokenRange[]): TokenRange[] {
  if (!rows.halves) return [...ranges];
  return ranges.flatMap(([start, end]) =>
    blocksOf(rows)
      .map(({ range }): TokenRange => [Math.max(start, range[0]), Math.min(end, range[1])])
      .filter(([first, last]) => first < last),
  );
}
