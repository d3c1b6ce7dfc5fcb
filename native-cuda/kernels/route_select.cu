// route, first stage: for each token the softmax over its router logits and the topK most likely experts (ties: lower
// index first). A warp takes a token; lane l holds the logits of experts l, l + 32, ...: PER of them.
//
// Macros: PER.
#include "lib/types.cuh"

// Order-preserving integer of a float, -0 like 0.
__device__ __forceinline__ u32 orderOf(float value) {
  u32 bits = __float_as_uint(value + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

extern "C" __global__ void __launch_bounds__(128)
route_select(const u32 *meta, const float *logits, float *weights, u32 *choices, u32 experts, u32 topK, u32 normalize,
             u32 capacity, u32 range) {
  const u32 ALL = 0xffffffffu;
  const u32 lane = threadIdx.x % 32;
  Rows rows = rowsOf(meta, range, capacity);
  waitForEarlier();
  letNextStart();
  const u32 warps = gridDim.x * (blockDim.x / 32);
  for (u32 token = rows.first + (blockIdx.x * blockDim.x + threadIdx.x) / 32; token < rows.end; token += warps) {
    const float *row = logits + u64(token) * experts;
    float values[PER];
    u32 orders[PER]; // 0: taken, or no expert
    float largest = -3.4e38f;
#pragma unroll
    for (int i = 0; i < PER; i++) {
      u32 expert = i * 32 + lane;
      values[i] = expert < experts ? row[expert] : 0.0f;
      orders[i] = expert < experts ? max(orderOf(values[i]), 1u) : 0;
      if (expert < experts) largest = fmaxf(largest, values[i]);
    }
#pragma unroll
    for (int width = 16; width > 0; width /= 2) largest = fmaxf(largest, __shfl_xor_sync(ALL, largest, width));
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < PER; i++) sum += i * 32 + lane < experts ? expf(values[i] - largest) : 0.0f;
#pragma unroll
    for (int width = 16; width > 0; width /= 2) sum += __shfl_xor_sync(ALL, sum, width);

    // Choice x ends up in lane x % 32 of round x / 32; the sum of all that were chosen in every lane.
    float chosenSum = 0.0f;
    for (u32 x = 0; x < topK; x++) {
      u32 best = 0;
#pragma unroll
      for (int i = 0; i < PER; i++) best = max(best, orders[i]);
      best = __reduce_max_sync(ALL, best);
      u32 expert = ALL;
      float weight = 0.0f;
#pragma unroll
      for (int i = PER - 1; i >= 0; i--) {
        if (orders[i] == best) {
          expert = i * 32 + lane;
          weight = expf(values[i] - largest);
        }
      }
      const u32 chosen = __reduce_min_sync(ALL, expert);
#pragma unroll
      for (int i = 0; i < PER; i++)
        if (chosen == i * 32 + lane) orders[i] = 0;
      weight = __shfl_sync(ALL, weight, chosen % 32);
      chosenSum += weight;
      if (lane == 0) {
        choices[token * topK + x] = chosen;
        weights[token * topK + x] = weight;
      }
    }
    __syncwarp();
    const float divisor = normalize ? chosenSum : sum;
    for (u32 x = lane; x < topK; x += 32) weights[token * topK + x] /= divisor;
    __syncwarp();
  }
}
