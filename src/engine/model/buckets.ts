/**
 * Sizes that programs are compiled for: powers of two, from `step` on its multiples (default: powers of two all the way).
 * Finer sizes fit the tiles of products better where a program costs little, as on CUDA.
 */

/**
 * Between sizes, of tokens and of rows that get logits. A program for 1024 rows has tiles that are wrong for 576: on an
 * H100 halves of 576 tokens took 1.15x as long with tiles chosen for 640 as with their own.
 * @param cheap whether a program costs little: a list of launches, nothing to compile. All of a server's programs take
 * 1.4 s (0.65 s by steps of 256)
 */
export function bucketStep(cheap: boolean): number {
  return cheap ? 64 : Infinity;
}

/** The shape buckets below `largest`, then `largest`. */
export function buckets(largest: number, step = Infinity): number[] {
  const result: number[] = [];
  for (let size = 1; size < largest; size = size < step ? Math.min(size * 2, step) : size + step) {
    result.push(size);
  }
  return [...result, largest];
}

/** Smallest bucket that holds `count`. */
export function bucket(count: number, largest: number, step = Infinity): number {
  const power = 2 ** Math.ceil(Math.log2(Math.max(1, count)));
  const size = power <= step ? power : Math.ceil(count / step) * step;
  return Math.min(largest, size);
}
