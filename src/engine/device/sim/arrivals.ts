/** Requests of a simulated run: when they come, how long prompt and answer are. Sorted by time; seconds. */
import { Random } from './random.ts';

export interface Arrival {
  time: number;
  input: number; // tokens of the prompt, at least 1
  output: number; // tokens of the answer, at least 1
}

export interface ArrivalOptions {
  count: number;
  /** Requests a second, exponential gaps; 0 or left out: all at the start. */
  rate?: number;
  seed?: number;
}

/** Requests of equal lengths. */
export function* constantArrivals(
  input: number,
  output: number,
  { count, rate = 0, seed = 1 }: ArrivalOptions,
): Generator<Arrival> {
  const random = new Random(seed);
  let time = 0;
  for (let i = 0; i < count; i++) {
    if (rate > 0) time += random.exponential(1 / rate);
    yield { time, input, output };
  }
}

/** Lengths drawn from those of a trace, with replacement. */
export function* sampledArrivals(
  lengths: readonly (readonly [input: number, output: number])[],
  { count, rate = 0, seed = 1 }: ArrivalOptions,
): Generator<Arrival> {
  const random = new Random(seed);
  let time = 0;
  for (let i = 0; i < count; i++) {
    if (rate > 0) time += random.exponential(1 / rate);
    const [input, output] = lengths[random.below(lengths.length)];
    yield { time, input, output };
  }
}

/**
 * Lengths from the columns ContextTokens and GeneratedTokens of a CSV file (NanoFlow's traces). Rows are dropped as
 * NanoFlow does: input + output over 4096, input over 3072, output over 1024, or either below 1.
 * @throws Error when a column is missing, a number is none, or no row is left
 */
export function parseTrace(csv: string): [input: number, output: number][] {
  const [header, ...rows] = csv.split(/\r?\n/).filter((line) => line.trim() !== '');
  const names = (header ?? '').split(',').map((name) => name.trim());
  const column = (name: string): number => {
    const at = names.indexOf(name);
    if (at < 0) throw new Error(`the trace has columns '${names.join(', ')}'; expected one called ${name}`);
    return at;
  };
  const inputAt = column('ContextTokens');
  const outputAt = column('GeneratedTokens');
  const lengths: [number, number][] = [];
  rows.forEach((row, i) => {
    const cells = row.split(',');
    const input = Number(cells[inputAt]);
    const output = Number(cells[outputAt]);
    if (!Number.isInteger(input) || !Number.isInteger(output)) {
      throw new Error(`line ${i + 2} of the trace is '${row}'; expected whole numbers of tokens`);
    }
    if (input >= 1 && output >= 1 && input <= 3072 && output <= 1024 && input + output <= 4096) {
      lengths.push([input, output]);
    }
  });
  if (lengths.length === 0) throw new Error('the trace has no request of usable length');
  return lengths;
}

/** Mean lengths of a trace. */
export function meanLengths(
  lengths: readonly (readonly [number, number])[],
): [input: number, output: number] {
  const sum = (at: 0 | 1): number => lengths.reduce((total, row) => total + row[at], 0) / lengths.length;
  return [sum(0), sum(1)];
}
