// gemm_wgmma: joining the parts of a tile that was cut along K.
#pragma once
#include "gemmWork.cuh"

// Whether thread 0 of the 128 says so, for all of them.
__device__ __forceinline__ bool told(u32 barrier, bool value) {
  u32 any;
  asm volatile("{ .reg .pred p, q; setp.ne.u32 p, %1, 0; bar.red.or.pred q, %2, 128, p; selp.u32 %0, 1, 0, q; }"
               : "=r"(any) : "r"(u32(value)), "r"(barrier) : "memory");
  return any != 0;
}

// Sums of the first `parts` of a tile, from scratch, in their order; then those that the thread holds, if `own`.
__device__ __forceinline__ void addParts(Sums &sums, const float4 *first, u32 partStride, u32 parts, bool own) {
  constexpr u32 PER_BLOCK = TOKENS / 8, QUADS = BLOCKS * PER_BLOCK;
  constexpr u32 BATCH = PER_BLOCK % 8 == 0 ? 8 : PER_BLOCK % 4 == 0 ? 4 : PER_BLOCK % 2 == 0 ? 2 : 1;
#pragma unroll
  for (u32 q = 0; q < QUADS; q += BATCH) {
    float *to = &sums[q / PER_BLOCK][q % PER_BLOCK * 4];
    const float4 *from = first + q * 128;
    float before[BATCH * 4];
#pragma unroll
    for (u32 i = 0; i < BATCH; i++) {
      const float4 value = __ldcg(from + i * 128);
      before[i * 4] = value.x;
      before[i * 4 + 1] = value.y;
      before[i * 4 + 2] = value.z;
      before[i * 4 + 3] = value.w;
    }
    from += partStride;
#pragma unroll BATCH >= 8 ? 1 : BATCH >= 4 ? 2 : 4
    for (u32 part = 1; part < parts; part++, from += partStride) {
#pragma unroll
      for (u32 i = 0; i < BATCH; i++) {
        const float4 value = __ldcg(from + i * 128);
        before[i * 4] += value.x;
        before[i * 4 + 1] += value.y;
        before[i * 4 + 2] += value.z;
        before[i * 4 + 3] += value.w;
      }
    }
#pragma unroll
    for (u32 i = 0; i < BATCH * 4; i++) to[i] = own ? before[i] + to[i] : before[i];
  }
}

// The parts of a tile leave their sums in scratch, but the last, which waits for them and then has the whole: true for
// it. When it has waited long (the others may need the multiprocessor that it holds), it leaves its sums as well, and
// whoever comes after all others adds them up: the same sums in the same order.
__device__ __forceinline__ bool joinParts(Sums &sums, const Work &work, u32 group, u32 rank, float4 *scratch, u32 *counters) {
  constexpr u32 QUADS = BLOCKS * TOKENS / 8; // float4 of a thread
  constexpr u32 MOST_LOOKS = 100; // tens of microseconds
  const u32 thread = threadIdx.x % 128, place = ((work.tile - work.whole) * CLUSTER + rank) * GROUPS + group;
  const u32 partStride = work.cut * (CLUSTER * GROUPS * QUADS * 128), others = work.parts - 1;
  float4 *first = scratch + place * (QUADS * 128) + thread;
  u32 *counter = counters + place;
  u32 seen = 0;
  if (work.part == others) {
    if (thread == 0) {
      for (u32 look = 0; look < MOST_LOOKS && seen < others; look++)
        asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(counter) : "memory");
      if (seen == others) *counter = 0;
    }
    if (told(1 + group, thread == 0 && seen == others)) {
      addParts(sums, first, partStride, others, true);
      return true;
    }
  }
  float4 *to = first + u64(work.part) * partStride;
#pragma unroll
  for (u32 q = 0; q < QUADS; q++) {
    const float *from = &sums[q / (TOKENS / 8)][q % (TOKENS / 8) * 4];
    __stcg(to + q * 128, make_float4(from[0], from[1], from[2], from[3]));
  }
  __threadfence();
  syncThreads(1 + group, 128);
  if (thread == 0) {
    asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;" : "=r"(seen) : "l"(counter) : "memory");
    if (seen == others) *counter = 0;
  }
  if (!told(1 + group, thread == 0 && seen == others)) return false;
  addParts(sums, first, partStride, work.parts, false);
  return true;
}
