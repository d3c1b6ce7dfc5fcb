/** Sizes that programs are compiled for. */

/** The shape buckets: powers of two below `largest`, then `largest`. */
export function buckets(largest: number): number[] {
  const result: number[] = [];
  for (let size = 1; size < largest; size *= 2) result.push(size);
  return [...result, largest];
}

/** Smallest bucket that holds `count`. */
export function bucket(count: number, largest: number): number {
  return Math.min(largest, 2 ** Math.ceil(Math.log2(Math.max(1, count))));
}
