// gemm and moe_gemm without tensor cores: any storage types, any K and alignment. Each of 256 threads has a block of
// BM / 16 rows and BN / 16 columns of a tile; 16 elements of K at a time go through shared memory as floats.
//
// Macros: A, W (storage types), OUT, BM, BN (multiples of 16), SILU, ADD, GROUPED, LOAD (elements of an access to rows
// of a and w: 1, 2 or 4).
#include "lib/gemm_tiles.cuh"

#define BK 16
#define TM (BM / 16)
#define TN (BN / 16)

// Elements of `rows` rows from column k0 on, transposed to [BK][rows + 4]; zeros behind the end of a row.
template <int T, int ROWS, class RowAt>
__device__ __forceinline__ void loadTile(float (*to)[ROWS + 4], const stored<T> *from, u32 k0, u32 k, RowAt rowAt) {
#pragma unroll
  for (int i = 0; i < (ROWS * BK / LOAD + 255) / 256; i++) {
    const u32 item = i * 256 + threadIdx.x;
    const u32 row = item / (BK / LOAD), column = item % (BK / LOAD) * LOAD;
    if (ROWS * BK / LOAD % 256 != 0 && row >= ROWS) continue;
    float values[LOAD] = {};
    if (k0 + column < k) loadFloats<T>(from + u64(rowAt(row)) * k + k0 + column, values);
#pragma unroll
    for (int j = 0; j < LOAD; j++) to[column + j][row] = values[j];
  }
}

extern "C" __global__ void __launch_bounds__(256)
gemm_simt(const u32 *meta, const stored<A> *a, const stored<W> *w, const float *bias, stored<OUT> *out,
          const u32 *slotSource, const u32 *expertStart, u32 n, u32 k, u32 capacity, u32 range, u32 ldc, u32 outColumn,
          u32 experts, u32 expertFirst, u32 topK, u32 gatherToken) {
  extern __shared__ u32 before[];
  __shared__ float aTile[BK][BM + 4], wTile[BK][BN + 4];
  const GemmShape shape = {n, k, capacity, range, ldc, outColumn, experts, expertFirst, topK, gatherToken};
  const u32 threadRow = threadIdx.x / 16, threadColumn = threadIdx.x % 16;
  waitForEarlier();
  letNextStart();
  const Rows rows = GROUPED ? Rows{0, 0} : rowsOf(meta, range, capacity);
  const u32 rowTiles = countRowTiles(shape, rows, expertStart, before);
  const u32 units = rowTiles * columnTiles(shape);
  for (u32 unit = blockIdx.x; unit < units; unit += gridDim.x) {
    const Tile tile = tileOf(unit, rowTiles, shape, rows, expertStart, before);
    const stored<W> *weights = w + u64(tile.expert) * n * k;
    float c[TM][TN] = {};
    for (u32 k0 = 0; k0 < k; k0 += BK) {
      __syncthreads();
      loadTile<A, BM>(aTile, a, k0, k, [&](u32 row) { return inputRow(tile, row, shape, slotSource); });
      loadTile<W, BN>(wTile, weights, k0, k, [&](u32 row) { return weightRow(tile, row, shape); });
      __syncthreads();
#pragma unroll
      for (int i = 0; i < BK; i++) {
        float x[TM], y[TN];
#pragma unroll
        for (int m = 0; m < TM; m++) x[m] = aTile[i][threadRow + m * 16];
        // Neighbouring columns in twos, and for SILU the up column that belongs to each gate column.
#pragma unroll
        for (int j = 0; j < TN; j++) {
          const u32 pair = threadColumn * 2 + j / 2 * 32 + j % 2;
          y[j] = wTile[i][SILU ? threadColumn / 8 * 16 + threadColumn % 8 + j / 2 * 32 + j % 2 * 8 : pair];
        }
#pragma unroll
        for (int m = 0; m < TM; m++)
#pragma unroll
          for (int j = 0; j < TN; j++) c[m][j] += x[m] * y[j];
      }
    }
#pragma unroll
    for (int m = 0; m < TM; m++) {
      const u32 at = threadRow + m * 16;
      if (at >= tile.rows) continue;
      stored<OUT> *row = out + outputRow(tile, at, shape, slotSource) * ldc;
#pragma unroll
      for (int j = 0; j < TN; j += 2) {
#if SILU
        const u32 column = tile.firstColumn + threadColumn / 8 * 8 + threadColumn % 8 + j / 2 * 16;
        if (column < n / 2) {
          stored<OUT> *to = row + outColumn + column;
          *to = fromFloat<OUT>(silu(c[m][j]) * c[m][j + 1]);
        }
#else
        storePair(row, tile.firstColumn + threadColumn * 2 + j / 2 * 32, c[m][j], c[m][j + 1], bias, shape);
#endif
      }
    }
  }
}
