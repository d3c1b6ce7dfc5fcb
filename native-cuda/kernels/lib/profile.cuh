// In-kernel profiler (macro PROFILE): when each CTA worked on what, and on which multiprocessor. Kernels built with
// PROFILE=1 take two more parameters at the end, `u64 *profile, u32 records`; without it nothing of this is left.
//
// The buffer holds, for each CTA, 1 + 3 * records words of 64 bits: how many events wanted a record (may exceed
// `records`: the rest was dropped), then records of three words:
//   tag = event | SM << 8 | number << 32
//   begin, end: %globaltimer, nanoseconds
// The host zeroes it before the launch. src/engine/device/cuda/profileRecords.ts reads it, and names the events.
#pragma once
#include "types.cuh"

#if PROFILE
// `number`: of attention the item, of products the tile.
enum ProfileEvent : u32 { ATTENTION_128 = 1, ATTENTION_16 = 2, PRODUCT_TILE = 3, PRODUCT_PART = 4 };

// The thread that ends an event writes its record; several threads of a CTA may record.
struct Profiler {
  u64 *area;
  u32 records;
  u64 begun;
  static __device__ __forceinline__ u64 now() {
    u64 time;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(time));
    return time;
  }
  __device__ __forceinline__ Profiler(u64 *buffer, u32 perCta)
      : area(buffer + u64(blockIdx.x) * (1 + 3 * perCta)), records(perCta), begun(0) {}
  __device__ __forceinline__ void begin() { begun = now(); }
  __device__ __forceinline__ void end(ProfileEvent event, u32 number) {
    u32 sm;
    asm volatile("mov.u32 %0, %%smid;" : "=r"(sm));
    u64 slot = atomicAdd(area, 1ull);
    if (slot >= records) return;
    u64 *record = area + 1 + 3 * slot;
    record[0] = u64(event) | u64(sm) << 8 | u64(number) << 32, record[1] = begun, record[2] = now();
  }
};

// An event that lasts as long as the scope it is declared in; `recorded`: of the one thread that records it.
struct ProfileScope {
  Profiler profiler;
  ProfileEvent event;
  u32 number;
  bool recorded;
  __device__ __forceinline__ ProfileScope(const Profiler &shared, ProfileEvent event, u32 number, bool recorded)
      : profiler(shared), event(event), number(number), recorded(recorded) {
    profiler.begin();
  }
  __device__ __forceinline__ ~ProfileScope() {
    if (recorded) profiler.end(event, number);
  }
};
#endif
