/**
 * The slow twin's inner product of row blocks, which is also what serves on the cpu device: 4 x 4 outputs in local
 * variables (registers) over flat arrays.
 */

/** Offsets in elements of up to four rows. */
type Four = readonly [number, number, number, number];

/** Sixteen sums: result[4 i + j] = sum_k a[aRows[i] + k] * w[wRows[j] + k]. */
export function dot4x4(
  a: Float32Array,
  aRows: Four,
  w: Float32Array,
  wRows: Four,
  k: number,
  result: Float64Array,
): void {
  const [a0, a1, a2, a3] = aRows;
  const [w0, w1, w2, w3] = wRows;
  let s00 = 0;
  let s01 = 0;
  let s02 = 0;
  let s03 = 0;
  let s10 = 0;
  let s11 = 0;
  let s12 = 0;
  let s13 = 0;
  let s20 = 0;
  let s21 = 0;
  let s22 = 0;
  let s23 = 0;
  let s30 = 0;
  let s31 = 0;
  let s32 = 0;
  let s33 = 0;
  for (let i = 0; i < k; i++) {
    const x0 = a[a0 + i];
    const x1 = a[a1 + i];
    const x2 = a[a2 + i];
    const x3 = a[a3 + i];
    const y0 = w[w0 + i];
    s00 += x0 * y0;
    s10 += x1 * y0;
    s20 += x2 * y0;
    s30 += x3 * y0;
    const y1 = w[w1 + i];
    s01 += x0 * y1;
    s11 += x1 * y1;
    s21 += x2 * y1;
    s31 += x3 * y1;
    const y2 = w[w2 + i];
    s02 += x0 * y2;
    s12 += x1 * y2;
    s22 += x2 * y2;
    s32 += x3 * y2;
    const y3 = w[w3 + i];
    s03 += x0 * y3;
    s13 += x1 * y3;
    s23 += x2 * y3;
    s33 += x3 * y3;
  }
  result[0] = s00;
  result[1] = s01;
  result[2] = s02;
  result[3] = s03;
  result[4] = s10;
  result[5] = s11;
  result[6] = s12;
  result[7] = s13;
  result[8] = s20;
  result[9] = s21;
  result[10] = s22;
  result[11] = s23;
  result[12] = s30;
  result[13] = s31;
  result[14] = s32;
  result[15] = s33;
}

/** One row: result[j] = sum_k a[aRow + k] * w[wRows[j] + k], each row in two chains so that additions overlap. */
function dot1x4(
  a: Float32Array,
  aRow: number,
  w: Float32Array,
  wRows: Four,
  k: number,
  result: Float64Array,
): void {
  const [w0, w1, w2, w3] = wRows;
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  let t0 = 0;
  let t1 = 0;
  let t2 = 0;
  let t3 = 0;
  let i = 0;
  for (; i + 1 < k; i += 2) {
    const x = a[aRow + i];
    const y = a[aRow + i + 1];
    s0 += x * w[w0 + i];
    t0 += y * w[w0 + i + 1];
    s1 += x * w[w1 + i];
    t1 += y * w[w1 + i + 1];
    s2 += x * w[w2 + i];
    t2 += y * w[w2 + i + 1];
    s3 += x * w[w3 + i];
    t3 += y * w[w3 + i + 1];
  }
  if (i < k) {
    const x = a[aRow + i];
    s0 += x * w[w0 + i];
    s1 += x * w[w1 + i];
    s2 += x * w[w2 + i];
    s3 += x * w[w3 + i];
  }
  result[0] = s0 + t0;
  result[1] = s1 + t1;
  result[2] = s2 + t2;
  result[3] = s3 + t3;
}

/**
 * Calls `store(i, n, value)` for every output i < rows.length (row offset rows[i] in `a`), n < columns (row n of `w`,
 * which starts at `wStart`). Blocks of four rows pass over `w` together.
 */
export function blockedGemm(
  a: Float32Array,
  rows: readonly number[],
  w: Float32Array,
  wStart: number,
  columns: number,
  k: number,
  store: (i: number, n: number, value: number) => void,
): void {
  const sums = new Float64Array(16);
  const at = (n: number): number => wStart + Math.min(n, columns - 1) * k;
  for (let i = 0; i < rows.length; i += 4) {
    const height = Math.min(4, rows.length - i);
    const row = (j: number): number => rows[Math.min(i + j, rows.length - 1)];
    const four: Four = [row(0), row(1), row(2), row(3)];
    for (let n = 0; n < columns; n += 4) {
      const width = Math.min(4, columns - n);
      const weights: Four = [at(n), at(n + 1), at(n + 2), at(n + 3)];
      if (height === 1) dot1x4(a, four[0], w, weights, k, sums);
      else dot4x4(a, four, w, weights, k, sums);
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++) store(i + y, n + x, sums[4 * y + x]);
      }
    }
  }
}
