// attention, tiles of 16 packed rows: reads the KV cache as fast as the memory gives it (lib/attentionDecode.cuh).
// Macros: TYPE, OUT, HEAD_DIM, TMA; DECODE_WARPS, _TILES, _DEPTH, _ROWS, _COMBINE (Decode), MIN_CTAS, PROFILE.
#include "lib/attentionDecode.cuh"

#ifndef MIN_CTAS
#define MIN_CTAS 1
#endif

extern "C" __global__ void __launch_bounds__(DECODE_WARPS * 32, MIN_CTAS)
    attention_decode(const u32 *meta, const stored<TYPE> *q,
#if TMA
                     const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v,
#else
                     const stored<TYPE> *k, const stored<TYPE> *v,
#endif
                     stored<OUT> *out, float *partialOut, float *partialLse, u32 *counters, u32 items, u32 indptr, u32 lists,
                     u32 pages, u32 heads, u32 kvHeads, u32 pageSize, u32 window, float scale, u32 kvRows
#if PROFILE
                     ,
                     u64 *profile, u32 records
#endif
    ) {
  extern __shared__ u8 raw[];
  u8 *shared = raw + (-sharedAddress(raw) & 1023);
#if TMA
  if (threadIdx.x == 0) prefetchMap(k), prefetchMap(v);
#endif
  waitForEarlier();
  letNextStart();
  DecodeInput in = {meta, {items, indptr, lists, pages, heads, kvHeads, heads / kvHeads, pageSize, window, scale}, q,
#if TMA
                    &k, &v,
#else
                    k, v,
#endif
                    out, partialOut, partialLse, counters, kvRows
#if PROFILE
                    , profile, records
#endif
  };
  Decode<DECODE_WARPS, DECODE_TILES, DECODE_DEPTH, DECODE_ROWS, DECODE_COMBINE, 1> decode(in, shared, threadIdx.x);
  decode.run();
}
