// attention, tiles of 128 packed rows, on Hopper's tensor cores (lib/attentionPrefill.cuh).
// Macros: TYPE, OUT, HEAD_DIM, KV_TILE, STAGES, PING_PONG, PROFILE. 3 warpgroups: producer, 2 consumers.
#include "lib/attentionPrefill.cuh"

extern "C" __global__ void __launch_bounds__(384, 1)
    attention_wgmma(const u32 *meta, const stored<TYPE> *q, const __grid_constant__ TensorMap k,
                    const __grid_constant__ TensorMap v, stored<OUT> *out, float *partialOut, float *partialLse,
                    u32 *counters, u32 items, u32 indptr, u32 lists, u32 pages, u32 heads, u32 kvHeads, u32 pageSize,
                    u32 window, float scale, u32 kvRows, u32 box
#if PROFILE
                    ,
                    u64 *profile, u32 records
#endif
    ) {
  extern __shared__ u8 raw[];
  u8 *shared = raw + (-sharedAddress(raw) & 1023);
  PrefillInput in = {meta, {items, indptr, lists, pages, heads, kvHeads, heads / kvHeads, pageSize, window, scale}, q, &k,
                     &v, out, partialOut, partialLse, counters, kvRows, box
#if PROFILE
                     , profile, records
#endif
  };
  Prefill<1> prefill(in, shared);
  if (threadIdx.x == 0) {
    prefetchMap(k), prefetchMap(v);
    prefill.initBarriers(sharedAddress(shared));
  }
  __syncthreads();
  waitForEarlier();
  letNextStart();
  const u32 warpgroup = threadIdx.x / 128;
  if (warpgroup == 0) {
    lowerRegisters<40>();
    if (threadIdx.x < 32) prefill.produce();
  } else {
    raiseRegisters<232>();
    prefill.consume(warpgroup - 1, threadIdx.x % 128);
  }
}
