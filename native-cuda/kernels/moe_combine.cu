// moe_combine: the weighted sum of the rows of a token's experts. A work item is W elements of a row.
//
// Macros: Y, OUT (storage types), W (elements of an access).
#include "lib/vector.cuh"

extern "C" __global__ void __launch_bounds__(256, RESIDENT_THREADS / 256)
moe_combine(const u32 *meta, const stored<Y> *y, const float *weights, stored<OUT> *out, u32 columns, u32 topK,
            u32 capacity, u32 range) {
  Rows rows = rowsOf(meta, range, capacity);
  u32 perRow = columns / W;
  u32 end = rows.end * perRow;
  waitForEarlier();
  letNextStart();
  for (u32 item = rows.first * perRow + blockIdx.x * blockDim.x + threadIdx.x; item < end;
       item += gridDim.x * blockDim.x) {
    u32 token = item / perRow;
    u32 column = (item - token * perRow) * W;
    float sum[W] = {};
#pragma unroll 4
    for (u32 x = 0; x < topK; x++) {
      float weight = weights[token * topK + x];
      float values[W];
      loadFloats<Y>(y + u64(token * topK + x) * columns + column, values);
#pragma unroll
      for (int i = 0; i < W; i++) sum[i] += weight * values[i];
    }
    storeFloats<OUT>(out + u64(token) * columns + column, sum);
  }
}
