// attention of both tile sizes in one launch: while two warpgroups compute the tiles of 128 rows on the tensor cores,
// three warps read the KV cache for the tiles of 16 rows, so that both the tensor cores and the memory are busy; a
// fourth brings K and V of the large tiles. Split tiles are merged by whoever comes last (counters). The plan balances
// each tile size for itself (together: false).
// Macros: those of lib/attentionPrefill.cuh and lib/attentionDecode.cuh; DECODE_DEPTH, DECODE_COMBINE, PROFILE.
#define TMA 1
#include "lib/attentionDecode.cuh"
#include "lib/attentionPrefill.cuh"

// Of a thread. A CTA of 384 threads starts with 168 each: 504 for the three warpgroups together; asking for more would
// wait for ever.
#ifndef DECODE_REGISTERS
#define DECODE_REGISTERS 120
#endif
#ifndef DECODE_TILES
#define DECODE_TILES 2
#endif
#define CONSUMER_REGISTERS ((504 - DECODE_REGISTERS) / 2)
static_assert(CONSUMER_REGISTERS % 8 == 0, "setmaxnreg takes multiples of 8");
static constexpr u32 DECODE_THREADS = 96;

// Map arguments: boxes of the prefill part, then of the decode part.
extern "C" __global__ void __launch_bounds__(384, 1)
    attention_mixed(const u32 *meta, const stored<TYPE> *q, const __grid_constant__ TensorMap k,
                    const __grid_constant__ TensorMap v, const __grid_constant__ TensorMap kUnits,
                    const __grid_constant__ TensorMap vUnits, stored<OUT> *out, float *partialOut, float *partialLse,
                    u32 *counters, u32 items128, u32 indptr128, u32 items16, u32 indptr16, u32 lists, u32 pages, u32 heads,
                    u32 kvHeads, u32 pageSize, u32 window, float scale, u32 kvRows, u32 box
#if PROFILE
                    ,
                    u64 *profile, u32 records
#endif
    ) {
  extern __shared__ u8 raw[];
  u8 *shared = raw + (-sharedAddress(raw) & 1023);
  typedef Decode<DECODE_THREADS / 32, DECODE_TILES, DECODE_DEPTH, 8, DECODE_COMBINE, 7> MixedDecode;
  // The decode part comes first: its rings want multiples of 1024 bytes as the tiles do.
  constexpr u32 DECODE_BYTES = (MixedDecode::BYTES + 1023) / 1024 * 1024;
  if (threadIdx.x == 0) {
    prefetchMap(k), prefetchMap(v), prefetchMap(kUnits), prefetchMap(vUnits);
    Prefill<1>::initBarriers(sharedAddress(shared + DECODE_BYTES));
  }
  __syncthreads();
  waitForEarlier();
  letNextStart();
  const u32 warpgroup = threadIdx.x / 128;
  if (warpgroup == 0 && threadIdx.x < DECODE_THREADS) {
    lowerRegisters<DECODE_REGISTERS>();
    DecodeInput in = {meta, {items16, indptr16, lists, pages, heads, kvHeads, heads / kvHeads, pageSize, window, scale}, q,
                      &kUnits, &vUnits, out, partialOut, partialLse, counters, kvRows
#if PROFILE
                      , profile, records
#endif
    };
    MixedDecode decode(in, shared, threadIdx.x);
    decode.run();
    return;
  }
  PrefillInput in = {meta, {items128, indptr128, lists, pages, heads, kvHeads, heads / kvHeads, pageSize, window, scale}, q,
                     &k, &v, out, partialOut, partialLse, counters, kvRows, box
#if PROFILE
                     , profile, records
#endif
  };
  Prefill<1> prefill(in, shared + DECODE_BYTES);
  if (warpgroup == 0) {
    lowerRegisters<DECODE_REGISTERS>();
    prefill.produce();
  } else {
    raiseRegisters<CONSUMER_REGISTERS>();
    prefill.consume(warpgroup - 1, threadIdx.x % 128);
  }
}
