// route, second stage: stable counting sort of the (token, choice) slots by expert. A CTA takes an expert, each of its
// warps a run of slots: the warps count the slots of lower experts and of this one, then each knows where its go.
#include "lib/types.cuh"

#define WARPS 32

extern "C" __global__ void __launch_bounds__(WARPS * 32)
route_sort(const u32 *meta, const u32 *choices, u32 *slotSource, u32 *expertStart, u32 experts, u32 topK, u32 capacity,
           u32 range) {
  __shared__ u32 lowers[WARPS], equals[WARPS];
  const u32 ALL = 0xffffffffu;
  const u32 lane = threadIdx.x % 32;
  const u32 warp = threadIdx.x / 32;
  const Rows rows = rowsOf(meta, range, capacity);
  const u32 firstSlot = rows.first * topK;
  const u32 endSlot = rows.end * topK;
  const u32 length = ((endSlot - firstSlot + WARPS - 1) / WARPS + 31) / 32 * 32;
  const u32 first = min(endSlot, firstSlot + warp * length);
  const u32 end = min(endSlot, first + length);
  waitForEarlier();
  letNextStart();
  for (u32 expert = blockIdx.x; expert < experts; expert += gridDim.x) {
    u32 lower = 0, equal = 0;
#pragma unroll 4
    for (u32 slot = first + lane; slot < end; slot += 32) {
      u32 choice = choices[slot];
      lower += choice < expert;
      equal += choice == expert;
    }
    lower = __reduce_add_sync(ALL, lower);
    equal = __reduce_add_sync(ALL, equal);
    if (lane == 0) {
      lowers[warp] = lower;
      equals[warp] = equal;
    }
    __syncthreads();
    const u32 start = __reduce_add_sync(ALL, lowers[lane]);
    const u32 total = __reduce_add_sync(ALL, equals[lane]);
    u32 to = start + __reduce_add_sync(ALL, lane < warp ? equals[lane] : 0);
    __syncthreads();
    for (u32 at = first; at < end; at += 32) {
      const u32 slot = at + lane;
      const bool own = slot < end && choices[slot] == expert;
      const u32 ballot = __ballot_sync(ALL, own);
      if (own) slotSource[to + __popc(ballot & ((1u << lane) - 1))] = slot;
      to += __popc(ballot);
    }
    if (threadIdx.x == 0) {
      expertStart[expert] = start;
      if (expert == experts - 1) expertStart[experts] = start + total;
    }
  }
}
