// attention, tiles of 128 packed rows, on mma.sync and cp.async: GPUs from compute capability 8.0 on, any page size. 8
// warps take 16 rows each. Macros: TYPE, OUT, HEAD_DIM (multiple of 8, at most 256), KV_TILE (multiple of 16), STAGES.
#include "lib/attention.cuh"

static constexpr u32 THREADS = 256, BLOCKS = (HEAD_DIM + 63) / 64, PIECES = BLOCKS * 8;
static constexpr u32 Q_BYTES = 128 * BLOCKS * 128, TILE = KV_TILE * BLOCKS * 128;
static constexpr int STEPS = (HEAD_DIM + 15) / 16, COLUMNS = KV_TILE / 8;

// Byte of a 16-byte piece in a tile of `rows` rows: blocks of 64 columns, pieces swizzled.
__device__ __forceinline__ u32 place(u32 row, u32 piece, u32 rows) {
  return (piece / 8 * rows + row) * 128 + ((piece ^ row) % 8) * 16;
}

extern "C" __global__ void __launch_bounds__(256, 1)
    attention_mma(const u32 *meta, const stored<TYPE> *q, const stored<TYPE> *k, const stored<TYPE> *v, stored<OUT> *out,
                  float *partialOut, float *partialLse, u32 items, u32 indptr, u32 lists, u32 pages, u32 heads, u32 kvHeads,
                  u32 pageSize, u32 window, float scale) {
  extern __shared__ u8 raw[];
  const u32 base = (sharedAddress(raw) + 127) & ~127u;
  const AttentionShape shape = {items, indptr, lists, pages, heads, kvHeads, heads / kvHeads, pageSize, window, scale};
  const u32 thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  waitForEarlier();
  letNextStart();
  ItemWalk walk;
  walk.start();
  u32 index;
  while (walk.next(meta, shape, index)) {
    const Item item = readItem(meta + items + index * ITEM_WORDS);
    const u32 rows = itemRows(item, shape.group, 128);
    const u32 tiles = item.kvEnd > item.kvStart ? (item.kvEnd - item.kvStart + KV_TILE - 1) / KV_TILE : 0;
    waitCopies<0>(); // an item without tokens did not wait for its queries
    __syncthreads(); // the item before is done with shared memory
    for (u32 i = thread; i < 128 * PIECES; i += THREADS) {
      const u32 row = i / PIECES, piece = i % PIECES;
      const bool valid = row < rows && piece < HEAD_DIM / 8;
      const u64 dense = denseRow(item, shape, item.rowStart + min(row, rows - 1));
      copyAsync16(base + place(row, piece, 128), q + dense * HEAD_DIM + (valid ? piece * 8 : 0), valid ? 16 : 0);
    }
    auto send = [&](u32 tile, u32 stage) {
      const u32 to = base + Q_BYTES + stage * 2 * TILE;
#pragma unroll 4
      for (u32 i = thread; i < KV_TILE * PIECES; i += THREADS) {
        const u32 row = i / PIECES, piece = i % PIECES, token = item.kvStart + tile * KV_TILE + row;
        const bool valid = token < item.kvEnd && piece < HEAD_DIM / 8;
        const u64 page = valid ? meta[pages + item.pageStart + token / pageSize] : 0;
        const u64 at = valid ? ((page * kvHeads + item.kvHead) * pageSize + token % pageSize) * HEAD_DIM + piece * 8 : 0;
        copyAsync16(to + place(row, piece, KV_TILE), k + at, valid ? 16 : 0);
        copyAsync16(to + TILE + place(row, piece, KV_TILE), v + at, valid ? 16 : 0);
      }
    };
    // Tiles go from the end to the start; STAGES - 1 of them are on their way.
    for (int ahead = 0; ahead < STAGES - 1; ahead++) {
      if (u32(ahead) < tiles) send(tiles - 1 - ahead, ahead);
      commitCopies();
    }
    const u32 ownRow = warp * 16 + lane / 4;
    int start[2], end[2], allStart, allEnd, ignored;
    visible(item, shape.group, window, item.rowStart + min(ownRow, rows - 1), start[0], end[0]);
    visible(item, shape.group, window, item.rowStart + min(ownRow + 8, rows - 1), start[1], end[1]);
    visible(item, shape.group, window, item.rowStart + min(warp * 16, rows - 1), ignored, allEnd);
    visible(item, shape.group, window, item.rowStart + min(warp * 16 + 15, rows - 1), allStart, ignored);
    float o[STEPS * 2][4], largest[2] = {NEGATIVE_INFINITY, NEGATIVE_INFINITY}, sum[2] = {0.f, 0.f};
#pragma unroll
    for (int i = 0; i < STEPS * 2; i++) o[i][0] = o[i][1] = o[i][2] = o[i][3] = 0.f;

    for (u32 done = 0; done < tiles; done++) {
      const u32 tile = tiles - 1 - done, stage = done % STAGES;
      if (STAGES > 1) {
        const u32 next = done + STAGES - 1;
        if (next < tiles) send(tiles - 1 - next, next % STAGES);
      } else send(tile, 0);
      commitCopies();
      waitCopies<STAGES - 1>();
      __syncthreads();
      const u32 keys = base + Q_BYTES + stage * 2 * TILE, values = keys + TILE;
      float s[COLUMNS][4];
#pragma unroll
      for (int i = 0; i < COLUMNS; i++) s[i][0] = s[i][1] = s[i][2] = s[i][3] = 0.f;
#pragma unroll
      for (int step = 0; step < STEPS; step++) {
        u32 a[4], b[4];
        ldmatrix4(a, base + place(warp * 16 + lane % 16, step * 2 + lane / 16, 128));
#pragma unroll
        for (int i = 0; i < COLUMNS; i += 2) {
          // Two groups of 8 tokens: pieces 2 step, 2 step + 1 of each.
          ldmatrix4(b, keys + place(i * 8 + lane / 16 * 8 + lane % 8, step * 2 + lane / 8 % 2, KV_TILE));
          mma<TYPE>(s[i], a, b[0], b[1]);
          mma<TYPE>(s[i + 1], a, b[2], b[3]);
        }
      }
      const int token = int(item.kvStart + tile * KV_TILE);
      if (token < allStart || token + KV_TILE > allEnd) {
#pragma unroll
        for (int i = 0; i < COLUMNS; i++)
#pragma unroll
          for (int e = 0; e < 4; e++) {
            const int column = token + i * 8 + int(lane % 4) * 2 + e % 2;
            if (column < start[e / 2] || column >= end[e / 2]) s[i][e] = NEGATIVE_INFINITY;
          }
      }
      float factor[2];
#pragma unroll
      for (int e = 0; e < 2; e++) {
        float most = s[0][2 * e];
#pragma unroll
        for (int i = 0; i < COLUMNS; i++) most = fmaxf(most, fmaxf(s[i][2 * e], s[i][2 * e + 1]));
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
        most = fmaxf(most, largest[e]);
        const float used = most == NEGATIVE_INFINITY ? 0.f : most * scale;
        factor[e] = exp2Fast(largest[e] * scale - used);
        largest[e] = most;
        sum[e] *= factor[e];
#pragma unroll
        for (int i = 0; i < COLUMNS; i++) {
          s[i][2 * e] = exp2Fast(fmaf(s[i][2 * e], scale, -used));
          s[i][2 * e + 1] = exp2Fast(fmaf(s[i][2 * e + 1], scale, -used));
          sum[e] += s[i][2 * e] + s[i][2 * e + 1];
        }
      }
#pragma unroll
      for (int i = 0; i < STEPS * 2; i++)
#pragma unroll
        for (int e = 0; e < 4; e++) o[i][e] *= factor[e / 2];
#pragma unroll
      for (int i = 0; i < COLUMNS; i += 2) {
        u32 a[4] = {packPair<TYPE>(s[i][0], s[i][1]), packPair<TYPE>(s[i][2], s[i][3]),
                    packPair<TYPE>(s[i + 1][0], s[i + 1][1]), packPair<TYPE>(s[i + 1][2], s[i + 1][3])};
#pragma unroll
        for (int step = 0; step < STEPS; step++) {
          u32 b[4]; // 16 tokens x 16 columns, transposed
          ldmatrix4Trans(b, values + place(i * 8 + lane % 16, step * 2 + lane / 16, KV_TILE));
          mma<TYPE>(o[2 * step], a, b[0], b[1]);
          mma<TYPE>(o[2 * step + 1], a, b[2], b[3]);
        }
      }
      __syncthreads();
    }
#pragma unroll
    for (int e = 0; e < 2; e++) {
      sum[e] += __shfl_xor_sync(~0u, sum[e], 1);
      sum[e] += __shfl_xor_sync(~0u, sum[e], 2);
      const float inverse = sum[e] > 0.f ? 1.f / sum[e] : 0.f;
      const u32 row = ownRow + 8 * e, partial = item.partialStart + row * item.chunkCount + item.chunkIndex;
      if (row >= rows) continue;
      const u64 dense = denseRow(item, shape, item.rowStart + row);
#pragma unroll
      for (int i = 0; i < HEAD_DIM / 8; i++) {
        const u32 column = 8 * i + lane % 4 * 2;
        const float x = o[i][2 * e] * inverse, y = o[i][2 * e + 1] * inverse;
        if (item.chunkCount == 1) storePair<OUT>(out + dense * HEAD_DIM + column, x, y);
        else storePair<F32>(partialOut + u64(partial) * HEAD_DIM + column, x, y);
      }
      if (item.chunkCount > 1 && lane % 4 == 0)
        partialLse[partial] = sum[e] > 0.f ? largest[e] * scale + log2Fast(sum[e]) : EMPTY_LSE;
    }
  }
}
