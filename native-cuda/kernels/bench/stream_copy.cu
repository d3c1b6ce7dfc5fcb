// stream_copy: copies `words16` 16-byte words.
#include "lib/types.cuh"

extern "C" __global__ void __launch_bounds__(THREADS) stream_copy(const uint4 *__restrict__ from, uint4 *to, u32 words16) {
  waitForEarlier();
  letNextStart();
  u32 stride = gridDim.x * THREADS;
  u32 i = blockIdx.x * THREADS + threadIdx.x;
  for (; i + (UNROLL - 1) * stride < words16; i += UNROLL * stride) {
    uint4 value[UNROLL];
#pragma unroll
    for (int u = 0; u < UNROLL; u++) value[u] = from[i + u * stride];
#pragma unroll
    for (int u = 0; u < UNROLL; u++) to[i + u * stride] = value[u];
  }
  for (; i < words16; i += stride) to[i] = from[i];
}
