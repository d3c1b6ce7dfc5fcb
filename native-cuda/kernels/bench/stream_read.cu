// stream_read: reads `words16` 16-byte words and keeps nothing: the bandwidth that other kernels are held against, and
// the neighbour in interference tables. UNROLL loads of a thread are in flight together.
#include "lib/types.cuh"

extern "C" __global__ void __launch_bounds__(THREADS) stream_read(const uint4 *__restrict__ data, u32 words16, u32 *out) {
  waitForEarlier();
  letNextStart();
  u32 stride = gridDim.x * THREADS;
  u32 seen = 0;
  u32 i = blockIdx.x * THREADS + threadIdx.x;
  for (; i + (UNROLL - 1) * stride < words16; i += UNROLL * stride) {
    uint4 value[UNROLL];
#pragma unroll
    for (int u = 0; u < UNROLL; u++)
      asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                   : "=r"(value[u].x), "=r"(value[u].y), "=r"(value[u].z), "=r"(value[u].w)
                   : "l"(data + i + u * stride));
#pragma unroll
    for (int u = 0; u < UNROLL; u++) seen ^= value[u].x ^ value[u].y ^ value[u].z ^ value[u].w;
  }
  for (; i < words16; i += stride) seen ^= data[i].x;
  if (seen == 0x12345678) *out = seen;
}
