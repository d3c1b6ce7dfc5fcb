// rms_norm: adds the residual (a product in PARTS parts is summed on the way), then normalises rows. TPR threads take a
// row, whose values stay in registers: VALUES accesses of W elements each. A CTA takes blockDim.x / TPR rows at once.
//
// Macros: OUT (storage type), W (elements of an access), VALUES, TPR (a multiple of 32), THREADS (of a CTA), PARTS (0: no residual),
// LOGIT_ROWS (1: rows of x are those that get logits, and x stays as it is).
#include "lib/vector.cuh"

// Weights are loaded before the launch waits for earlier ones, where registers allow.
#define AHEAD (VALUES * W <= 16)

extern "C" __global__ void __launch_bounds__(THREADS, VALUES * W <= 8 ? RESIDENT_THREADS / THREADS : 1)
rms_norm(const u32 *meta, float *x, const float *weight, stored<OUT> *out, const float *residual, u32 columns,
         u32 capacity, u32 range, u32 logitRows, u32 xRows, float epsilon) {
  __shared__ float sums[32];
  const u32 lane = threadIdx.x % TPR;
  const u32 team = threadIdx.x / TPR;
  const u32 teams = THREADS / TPR;
  Rows rows = rowsOf(meta, range, capacity);
  float scales[VALUES][W];
#pragma unroll
  for (int i = 0; AHEAD && i < VALUES; i++) {
    u32 column = (i * TPR + lane) * W;
    if (column < columns) loadFloats<F32>(weight + column, scales[i]);
  }
  waitForEarlier();
  letNextStart();
  for (u32 base = rows.first + blockIdx.x * teams; base < rows.end; base += gridDim.x * teams) {
    const u32 row = base + team;
    const bool there = row < rows.end;
    const u64 from = u64(there ? (LOGIT_ROWS ? meta[logitRows + row] : row) : 0) * columns;
    float values[VALUES][W];
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < VALUES; i++) {
      u32 column = (i * TPR + lane) * W;
      if (!there || column >= columns) continue;
      loadFloats<F32>(x + from + column, values[i]);
#if PARTS > 0
#pragma unroll
      for (int part = 0; part < PARTS; part++) {
        float more[W];
        loadFloats<F32>(residual + (u64(part) * xRows * columns + from + column), more);
#pragma unroll
        for (int j = 0; j < W; j++) values[i][j] += more[j];
      }
      if (!LOGIT_ROWS) storeFloats<F32>(x + from + column, values[i]);
#endif
#pragma unroll
      for (int j = 0; j < W; j++) squares += values[i][j] * values[i][j];
    }
#pragma unroll
    for (int width = 16; width > 0; width /= 2) squares += __shfl_xor_sync(0xffffffffu, squares, width);
    if (TPR > 32) {
      if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = squares;
      __syncthreads();
      squares = 0.0f;
#pragma unroll
      for (int i = 0; i < TPR / 32; i++) squares += sums[team * (TPR / 32) + i];
      __syncthreads();
    }
    const float scale = 1.0f / sqrtf(squares / float(columns) + epsilon);
#pragma unroll
    for (int i = 0; i < VALUES; i++) {
      u32 column = (i * TPR + lane) * W;
      if (!there || column >= columns) continue;
      if (!AHEAD) loadFloats<F32>(weight + column, scales[i]);
#pragma unroll
      for (int j = 0; j < W; j++) values[i][j] *= scale * scales[i][j];
      storeFloats<OUT>(out + u64(row) * columns + column, values[i]);
    }
  }
}
