// attention for every storage type, head dimension and page size: a warp takes one packed row at a time. Slow; the
// fast kernels are held to it. Macros: Q, KV, OUT (types), HEAD_DIM (at most 256), TILE (16, 128).
#include "lib/attention.cuh"

extern "C" __global__ void __launch_bounds__(256)
    attention_simple(const u32 *meta, const stored<Q> *q, const stored<KV> *k, const stored<KV> *v, stored<OUT> *out,
                     float *partialOut, float *partialLse, u32 items, u32 indptr, u32 lists, u32 pages, u32 heads,
                     u32 kvHeads, u32 pageSize, u32 window, float scale) {
  waitForEarlier();
  letNextStart();
  constexpr int OWN = (HEAD_DIM + 31) / 32; // columns of a lane: lane, lane + 32, ...
  const AttentionShape shape = {items, indptr, lists, pages, heads, kvHeads, heads / kvHeads, pageSize, window, scale};
  const u32 lane = threadIdx.x % 32;
  ItemWalk walk;
  walk.start();
  u32 index;
  while (walk.next(meta, shape, index)) {
    const Item item = readItem(meta + items + index * ITEM_WORDS);
    const u32 rows = itemRows(item, shape.group, TILE);
    for (u32 row = threadIdx.x / 32; row < rows; row += blockDim.x / 32) {
      const u64 dense = u64(denseRow(item, shape, item.rowStart + row)) * HEAD_DIM;
      float query[OWN], result[OWN], largest = NEGATIVE_INFINITY, sum = 0.f;
#pragma unroll
      for (int i = 0; i < OWN; i++) {
        query[i] = lane + 32 * i < HEAD_DIM ? toFloat(q[dense + lane + 32 * i]) : 0.f;
        result[i] = 0.f;
      }
      int start, end;
      visible(item, shape.group, window, item.rowStart + row, start, end);
      for (int token = start; token < end; token++) {
        const u64 page = meta[pages + item.pageStart + u32(token) / pageSize];
        const u64 at = ((page * kvHeads + item.kvHead) * pageSize + u32(token) % pageSize) * HEAD_DIM;
        float score = 0.f;
#pragma unroll
        for (int i = 0; i < OWN; i++)
          if (lane + 32 * i < HEAD_DIM) score += query[i] * toFloat(k[at + lane + 32 * i]);
#pragma unroll
        for (int bit = 16; bit > 0; bit /= 2) score += __shfl_xor_sync(~0u, score, bit);
        score *= scale;
        const float most = fmaxf(largest, score), factor = exp2Fast(largest - most), weight = exp2Fast(score - most);
        largest = most, sum = sum * factor + weight;
#pragma unroll
        for (int i = 0; i < OWN; i++)
          if (lane + 32 * i < HEAD_DIM) result[i] = result[i] * factor + weight * toFloat(v[at + lane + 32 * i]);
      }
      const float inverse = sum > 0.f ? 1.f / sum : 0.f;
      const u32 partial = item.partialStart + row * item.chunkCount + item.chunkIndex;
#pragma unroll
      for (int i = 0; i < OWN; i++) {
        const u32 column = lane + 32 * i;
        if (column >= HEAD_DIM) break;
        if (item.chunkCount == 1) out[dense + column] = fromFloat<OUT>(result[i] * inverse);
        else partialOut[u64(partial) * HEAD_DIM + column] = result[i] * inverse;
      }
      if (item.chunkCount > 1 && lane == 0) partialLse[partial] = sum > 0.f ? largest + log2Fast(sum) : EMPTY_LSE;
    }
  }
}
