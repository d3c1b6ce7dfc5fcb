// gemm and moe_gemm on tensor cores of compute capability 8.0 and up: mma.sync over tiles in shared memory that cp.async
// fills STAGES - 1 steps ahead, across the borders of tiles. WARPS_K groups of warps share the elements of a step and
// add their sums up in the end, so few rows still give work to all warps. K is a multiple of 8.
//
// Macros: IN (storage type of a and w), OUT, BM, BN, BK, STAGES, WARPS_M, WARPS_N, WARPS_K, SILU, ADD, GROUPED.
#include "lib/gemm_tiles.cuh"
#include "lib/mma.cuh"

#define THREADS (WARPS_M * WARPS_N * WARPS_K * 32)
#define CHUNKS (BK / 8) // 16-byte chunks of a row of a step
#define ROW_TILES (BM / WARPS_M / 16)
#define COLUMN_TILES (BN / WARPS_N / 8)
#define STEP_BYTES ((BM + BN) * BK * 2)
#define LOADED_ROWS (THREADS / CHUNKS)
#define A_LOADS ((BM + LOADED_ROWS - 1) / LOADED_ROWS)
#define W_LOADS ((BN + LOADED_ROWS - 1) / LOADED_ROWS)

// Byte of a chunk in a tile of BK columns: chunks of neighbouring rows lie in different banks.
__device__ __forceinline__ u32 chunkAt(u32 row, u32 chunk) {
  const u32 turn = CHUNKS >= 8 ? row & 7 : CHUNKS == 4 ? (row >> 1) & 3 : 0;
  return (row * CHUNKS + (chunk ^ turn)) * 16;
}

extern "C" __global__ void __launch_bounds__(THREADS)
gemm_mma(const u32 *meta, const stored<IN> *a, const stored<IN> *w, const float *bias, stored<OUT> *out,
         const u32 *slotSource, const u32 *expertStart, u32 n, u32 k, u32 capacity, u32 range, u32 ldc, u32 outColumn,
         u32 experts, u32 expertFirst, u32 topK, u32 gatherToken) {
  extern __shared__ __align__(128) u8 memory[];
  float *sums = reinterpret_cast<float *>(memory + STAGES * STEP_BYTES);
  u32 *before = reinterpret_cast<u32 *>(sums + (WARPS_K - 1) * WARPS_M * WARPS_N * ROW_TILES * COLUMN_TILES * 128);
  const GemmShape shape = {n, k, capacity, range, ldc, outColumn, experts, expertFirst, topK, gatherToken};
  const u32 lane = threadIdx.x % 32;
  const u32 warp = threadIdx.x / 32;
  const u32 warpK = warp / (WARPS_M * WARPS_N);
  const u32 warpM = warp % WARPS_M * (BM / WARPS_M);
  const u32 warpN = warp / WARPS_M % WARPS_N * (BN / WARPS_N);
  const u32 base = sharedAddress(memory);
  const u32 steps = (k + BK - 1) / BK;

#if GROUPED
  const Rows rows = {0, 0};
  waitForEarlier();
  letNextStart();
#else
  const Rows rows = rowsOf(meta, range, capacity);
#endif
  const u32 rowTiles = countRowTiles(shape, rows, expertStart, before);
  const u32 units = rowTiles * columnTiles(shape);

  // What is loaded next: a step of a unit. Each thread loads the same chunk of every LOADED_ROWS-th row.
  const u32 loadChunk = threadIdx.x % CHUNKS;
  const u32 loadRow = threadIdx.x / CHUNKS;
  u32 loadUnit = blockIdx.x, loadStep = 0;
  const stored<IN> *loadW = w;
  u32 aOffsets[A_LOADS], wOffsets[W_LOADS]; // elements
  u32 loadRows = 0;                         // of the tile; rows behind them are zeros
  const auto locate = [&] {
    const Tile tile = tileOf(loadUnit, rowTiles, shape, rows, expertStart, before);
    loadW = w + u64(tile.expert) * n * k;
    loadRows = tile.rows;
#pragma unroll
    for (int i = 0; i < A_LOADS; i++)
      aOffsets[i] = inputRow(tile, loadRow + i * LOADED_ROWS, shape, slotSource) * k + loadChunk * 8;
#pragma unroll
    for (int i = 0; i < W_LOADS; i++)
      wOffsets[i] = weightRow(tile, loadRow + i * LOADED_ROWS, shape) * k + loadChunk * 8;
  };
  const auto copyW = [&](u32 stage, u32 step) {
    const u32 to = base + stage * STEP_BYTES + BM * BK * 2;
    const bool there = step * BK + loadChunk * 8 < k;
#pragma unroll
    for (int i = 0; i < W_LOADS; i++) {
      const u32 row = loadRow + i * LOADED_ROWS;
      if (BN % LOADED_ROWS == 0 || row < BN)
        copyAsync16(to + chunkAt(row, loadChunk), there ? loadW + wOffsets[i] + step * BK : w, there);
    }
  };
  const auto copyA = [&](u32 stage, u32 step) {
    const u32 to = base + stage * STEP_BYTES;
    const bool there = step * BK + loadChunk * 8 < k;
#pragma unroll
    for (int i = 0; i < A_LOADS; i++) {
      const u32 row = loadRow + i * LOADED_ROWS;
      if (BM % LOADED_ROWS == 0 || row < BM)
        copyAsync16(to + chunkAt(row, loadChunk), there ? a + aOffsets[i] + step * BK : a, there && row < loadRows);
    }
  };
  const auto copyNext = [&](u32 stage) {
    if (loadUnit < units) {
      copyW(stage, loadStep);
      copyA(stage, loadStep);
      if (++loadStep == steps) {
        loadStep = 0;
        loadUnit += gridDim.x;
        if (loadUnit < units) locate();
      }
    }
    commitCopies();
  };
  if (loadUnit < units) locate();
#if GROUPED
  for (u32 stage = 0; stage < STAGES - 1; stage++) copyNext(stage);
#else
  // Weights of the first steps may come before earlier launches are done; a short K ends this early.
  const u32 ahead = loadUnit < units ? min(steps, u32(STAGES - 1)) : 0;
  for (u32 stage = 0; stage < ahead; stage++) copyW(stage, stage);
  waitForEarlier();
  letNextStart();
  for (u32 stage = 0; stage < STAGES - 1; stage++) {
    if (stage < ahead) {
      copyA(stage, stage);
      if (++loadStep == steps) {
        loadStep = 0;
        loadUnit += gridDim.x;
        if (loadUnit < units) locate();
      }
      commitCopies();
    } else {
      copyNext(stage);
    }
  }
#endif

  u32 stage = 0;
  for (u32 unit = blockIdx.x; unit < units; unit += gridDim.x) {
    float c[ROW_TILES][COLUMN_TILES][4] = {};
    for (u32 step = 0; step < steps; step++) {
      waitCopies<STAGES - 2>();
      __syncthreads();
      copyNext(stage == 0 ? STAGES - 1 : stage - 1);
      const u32 aTile = base + stage * STEP_BYTES;
      const u32 wTile = aTile + BM * BK * 2;
      // The matrices of the next 16 elements are loaded while those of these are multiplied.
      u32 x[2][ROW_TILES][4], y[2][COLUMN_TILES / 2][4];
      const auto load = [&](int i) {
        const u32 chunk = 2 * (i * WARPS_K + warpK);
#pragma unroll
        for (int m = 0; m < ROW_TILES; m++)
          loadMatrices(x[i % 2][m], aTile + chunkAt(warpM + m * 16 + lane % 16, chunk + lane / 16));
#pragma unroll
        for (int j = 0; j < COLUMN_TILES / 2; j++)
          loadMatrices(y[i % 2][j], wTile + chunkAt(warpN + j * 16 + lane / 16 * 8 + lane % 8, chunk + lane / 8 % 2));
      };
      load(0);
#pragma unroll
      for (int i = 0; i < BK / 16 / WARPS_K; i++) {
        if (i + 1 < BK / 16 / WARPS_K) load(i + 1);
#pragma unroll
        for (int m = 0; m < ROW_TILES; m++)
#pragma unroll
          for (int j = 0; j < COLUMN_TILES; j++)
            multiplyAdd<IN>(c[m][j], x[i % 2][m], y[i % 2][j / 2][j % 2 * 2], y[i % 2][j / 2][j % 2 * 2 + 1]);
      }
      stage = stage + 1 == STAGES ? 0 : stage + 1;
    }

#if WARPS_K > 1
    // Groups 1 and up hand their sums to group 0, which adds them in order.
    const u32 part = warp % (WARPS_M * WARPS_N);
#pragma unroll
    for (int m = 0; m < ROW_TILES; m++)
#pragma unroll
      for (int j = 0; j < COLUMN_TILES; j++)
        if (warpK > 0) {
          const u32 at = (((warpK - 1) * WARPS_M * WARPS_N + part) * ROW_TILES + m) * COLUMN_TILES + j;
          *reinterpret_cast<float4 *>(sums + (at * 32 + lane) * 4) =
              make_float4(c[m][j][0], c[m][j][1], c[m][j][2], c[m][j][3]);
        }
    __syncthreads();
    if (warpK == 0) {
#pragma unroll
      for (int group = 0; group < WARPS_K - 1; group++)
#pragma unroll
        for (int m = 0; m < ROW_TILES; m++)
#pragma unroll
          for (int j = 0; j < COLUMN_TILES; j++) {
            const u32 at = ((group * WARPS_M * WARPS_N + part) * ROW_TILES + m) * COLUMN_TILES + j;
            const float4 more = *reinterpret_cast<const float4 *>(sums + (at * 32 + lane) * 4);
            c[m][j][0] += more.x;
            c[m][j][1] += more.y;
            c[m][j][2] += more.z;
            c[m][j][3] += more.w;
          }
    }
#endif
    if (warpK == 0) {
      const Tile tile = tileOf(unit, rowTiles, shape, rows, expertStart, before);
#pragma unroll
      for (int m = 0; m < ROW_TILES; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
          const u32 at = warpM + m * 16 + half * 8 + lane / 4;
          if (at >= tile.rows) continue;
          stored<OUT> *row = out + outputRow(tile, at, shape, slotSource) * ldc;
#pragma unroll
          for (int j = 0; j < COLUMN_TILES; j += SILU ? 2 : 1) {
            float first = c[m][j][half * 2], second = c[m][j][half * 2 + 1];
#if SILU
            first = silu(first) * c[m][j + 1][half * 2];
            second = silu(second) * c[m][j + 1][half * 2 + 1];
            const u32 column = tile.firstColumn + (warpN + j * 8) / 2 + lane % 4 * 2;
#else
            const u32 column = tile.firstColumn + warpN + j * 8 + lane % 4 * 2;
#endif
            storePair(row, column, first, second, bias, shape);
          }
        }
    }
  }
}
