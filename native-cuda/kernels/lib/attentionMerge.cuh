// Combines partial rows: out = sum 2^(lse_i - max) o_i / sum 2^(lse_i - max).
#pragma once
#include "attention.cuh"

__device__ __forceinline__ float loadFresh(const float *from) {
  float value;
  asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(value) : "l"(from) : "memory");
  return value;
}
__device__ __forceinline__ float2 loadFresh2(const float *from) {
  float2 value;
  asm volatile("ld.global.cg.v2.f32 {%0, %1}, [%2];" : "=f"(value.x), "=f"(value.y) : "l"(from) : "memory");
  return value;
}

// Columns `column`, +1 of a merged row whose `chunks` partial rows begin at `first`. headDim is even.
__device__ __forceinline__ float2 mergePair(const float *partialOut, const float *partialLse, u32 first, u32 chunks,
                                            u32 headDim, u32 column) {
  float largest = EMPTY_LSE;
#pragma unroll 8
  for (u32 i = 0; i < chunks; i++) largest = fmaxf(largest, loadFresh(partialLse + first + i));
  float sum = 0.f, x = 0.f, y = 0.f;
  if (largest > EMPTY_LSE) {
    const float *rows = partialOut + u64(first) * headDim + column;
#pragma unroll 8
    for (u32 i = 0; i < chunks; i++) {
      float weight = exp2Fast(loadFresh(partialLse + first + i) - largest);
      float2 o = loadFresh2(rows + u64(i) * headDim);
      sum += weight, x += weight * o.x, y += weight * o.y;
    }
    sum = 1.f / sum;
  }
  return make_float2(x * sum, y * sum);
}

// After a team has written its partial rows of a tile: the team that comes last merges all of them. `counter` is zero
// before the first one and after the last one. Rows [row, row + rows) of the tile; `first`: partial row of row 0.
template <int OUT_TYPE>
__device__ __forceinline__ void mergeIfLast(const Item &item, const AttentionShape &shape, u32 headDim, u32 row, u32 rows,
                                            stored<OUT_TYPE> *out, const float *partialOut, const float *partialLse,
                                            u32 *counters, volatile u32 *shared, u32 thread, u32 threads, u32 barrier) {
  u32 first = item.partialStart + row * item.chunkCount;
  __threadfence();
  barrierSync(barrier, threads);
  if (thread == 0) {
    u32 earlier = atomicAdd(counters + first, 1u);
    bool last = earlier == item.chunkCount - 1;
    if (last) counters[first] = 0;
    __threadfence();
    *shared = last;
  }
  barrierSync(barrier, threads);
  if (!*shared) return;
  __threadfence();
  u32 pairs = headDim / 2;
  for (u32 i = thread; i < rows * pairs; i += threads) {
    u32 r = i / pairs, column = (i - r * pairs) * 2;
    float2 value = mergePair(partialOut, partialLse, first + r * item.chunkCount, item.chunkCount, headDim, column);
    storePair<OUT_TYPE>(out + u64(denseRow(item, shape, item.rowStart + row + r)) * headDim + column, value.x, value.y);
  }
}
