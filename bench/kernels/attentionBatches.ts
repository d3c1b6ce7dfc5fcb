/** Batches of uneven lengths: three made up, others drawn from request traces. */
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { BenchError } from '../serving/benchError.ts';

export interface LengthBatch {
  name: string;
  /** Tokens of each request in this step, and KV tokens with them. */
  lengths: { qLen: number; kvLen: number }[];
}

/** Skewed batches; `scale` shortens contexts where a device is small. */
export function skewedBatches(scale: number): LengthBatch[] {
  const decode = (kvLen: number) => ({ qLen: 1, kvLen: Math.max(1, Math.round(kvLen * scale)) });
  const prefill = (qLen: number, past: number) => {
    const rows = Math.max(1, Math.round(qLen * scale));
    return { qLen: rows, kvLen: rows + Math.round(past * scale) };
  };
  const count = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
  return [
    {
      name: 'one 32k among 63 short',
      lengths: [decode(32768), ...count(63).map((i) => decode(100 + 3 * i))],
    },
    {
      name: 'geometric lengths, 64 to 15k',
      lengths: count(64).map((i) => decode(64 * 2 ** (i / 8))),
    },
    {
      name: '60 decoding, prefills of 512 and 128',
      lengths: [...count(60).map((i) => decode(200 + 60 * i)), prefill(512, 4096), prefill(128, 0)],
    },
  ];
}

/**
 * Decoding requests of a trace at a random point of their answers. Long answers stay longer in a batch, so a row is
 * drawn with a chance proportional to its generated tokens.
 *
 * @param file CSV with columns ContextTokens and GeneratedTokens
 * @throws BenchError when the file has no such rows.
 */
export async function traceBatch(
  file: string,
  requests: number,
  scale: number,
  random: () => number,
): Promise<LengthBatch> {
  const text = await readFile(file, 'utf8').catch((error: Error) => {
    throw new BenchError(`cannot read the trace ${file}: ${error.message}`);
  });
  const [header, ...lines] = text.trim().split(/\r?\n/);
  const columns = header.split(',').map((name) => name.trim());
  const context = columns.indexOf('ContextTokens');
  const generated = columns.indexOf('GeneratedTokens');
  const rows = lines
    .map((line) => line.split(','))
    .map((cells) => ({ context: Number(cells[context]), generated: Number(cells[generated]) }))
    .filter((row) => row.context > 0 && row.generated > 0);
  if (rows.length === 0) {
    throw new BenchError(
      `${file} has no rows with ContextTokens and GeneratedTokens; give a CSV with both columns`,
    );
  }
  const ends = new Float64Array(rows.length);
  let total = 0;
  rows.forEach((row, i) => (ends[i] = total += row.generated));
  const lengths = Array.from({ length: requests }, () => {
    const at = random() * total;
    let low = 0;
    for (let high = rows.length - 1; low < high;) {
      const middle = (low + high) >> 1;
      if (ends[middle] > at) high = middle;
      else low = middle + 1;
    }
    const row = rows[low];
    const kvLen = row.context + Math.ceil(random() * row.generated);
    return { qLen: 1, kvLen: Math.max(1, Math.round(kvLen * scale)) };
  });
  return { name: `${basename(file).replace(/\.csv$/, '')}, ${requests} decoding`, lengths };
}
