// silu_mul: out = silu(gate) * up over the two halves of each row. A work item is W elements of a row.
//
// Macros: IN, OUT (storage types), W (elements of an access).
#include "lib/vector.cuh"

extern "C" __global__ void __launch_bounds__(256, RESIDENT_THREADS / 256)
silu_mul(const u32 *meta, const stored<IN> *gateUp, stored<OUT> *out, u32 columns, u32 capacity, u32 range,
         u32 rowsPerToken, u32 compact) {
  Rows tokens = rowsOf(meta, range, 0xffffffffu);
  u32 before = compact ? tokens.first : 0;
  u32 perRow = columns / W;
  u32 first = (tokens.first - before) * rowsPerToken * perRow;
  u32 end = min((tokens.end - before) * rowsPerToken, capacity) * perRow;
  waitForEarlier();
  letNextStart();
  for (u32 item = first + blockIdx.x * blockDim.x + threadIdx.x; item < end; item += gridDim.x * blockDim.x) {
    u32 row = item / perRow;
    u32 column = (item - row * perRow) * W;
    const stored<IN> *from = gateUp + u64(row) * 2 * columns + column;
    float gate[W], up[W];
    loadFloats<IN>(from, gate);
    loadFloats<IN>(from + columns, up);
#pragma unroll
    for (int i = 0; i < W; i++) gate[i] = silu(gate[i]) * up[i];
    storeFloats<OUT>(out + u64(row) * columns + column, gate);
  }
}
