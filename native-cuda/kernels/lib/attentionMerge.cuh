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

// Columns `column`, +1 of a merged row whose `chunks` partial rows begin at `first`. headDim is even. Eight at a time, so
// that a merge of few chunks waits for the memory once.
__device__ __forceinline__ float2 mergePair(const float *partialOut, const float *partialLse, u32 first, u32 chunks,
                                            u32 headDim, u32 column) {
  constexpr u32 AT_ONCE = 8;
  float largest = EMPTY_LSE, sum = 0.f, x = 0.f, y = 0.f;
  for (u32 from = 0; from < chunks; from += AT_ONCE) {
    float lse[AT_ONCE], most = largest;
    float2 part[AT_ONCE];
#pragma unroll
    for (u32 i = 0; i < AT_ONCE; i++) {
      const u32 row = first + min(from + i, chunks - 1);
      lse[i] = loadFresh(partialLse + row);
      part[i] = loadFresh2(partialOut + u64(row) * headDim + column);
    }
#pragma unroll
    for (u32 i = 0; i < AT_ONCE; i++) {
      if (from + i >= chunks) lse[i] = EMPTY_LSE;
      most = fmaxf(most, lse[i]);
    }
    const float factor = exp2Fast(largest - most);
    sum *= factor, x *= factor, y *= factor, largest = most;
#pragma unroll
    for (u32 i = 0; i < AT_ONCE; i++) {
      const float weight = lse[i] > EMPTY_LSE ? exp2Fast(lse[i] - most) : 0.f;
      sum += weight, x += weight * part[i].x, y += weight * part[i].y;
    }
  }
  const float inverse = sum > 0.f ? 1.f / sum : 0.f;
  return make_float2(x * inverse, y * inverse);
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
