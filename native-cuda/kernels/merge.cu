// merge: combines the partial rows of tiles whose KV range was cut into chunks. Macros: OUT, HEAD_DIM (even).
#include "lib/attentionMerge.cuh"

extern "C" __global__ void __launch_bounds__(256)
    merge(const u32 *meta, const float *partialOut, const float *partialLse, stored<OUT> *out, u32 count, u32 indptr,
          u32 rows, u32 capacity) {
  waitForEarlier();
  letNextStart();
  constexpr u32 PAIRS = HEAD_DIM / 2;
  const u32 total = min(meta[count], capacity) * PAIRS;
  for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += gridDim.x * blockDim.x) {
    const u32 row = i / PAIRS, column = i % PAIRS * 2;
    const u32 first = meta[indptr + row], end = meta[indptr + row + 1];
    const float2 value = mergePair(partialOut, partialLse, first, end - first, HEAD_DIM, column);
    storePair<OUT>(out + u64(meta[rows + row]) * HEAD_DIM + column, value.x, value.y);
  }
}
