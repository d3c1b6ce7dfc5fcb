// clear: zeros `words` words.
#include "lib/types.cuh"

extern "C" __global__ void __launch_bounds__(256) clear(u32 *out, u32 words) {
  waitForEarlier();
  letNextStart();
  for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < words; i += gridDim.x * blockDim.x) out[i] = 0;
}
