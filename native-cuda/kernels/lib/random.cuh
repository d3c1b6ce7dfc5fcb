// Counter-based noise for sampling: philox4x32-10 (Salmon et al., SC 2011) and Gumbel noise made from its words.
// src/engine/kernels/philox.ts is the host copy. The noise of a token depends only on the request's seed, the index
// of the generated token in its request, and the token's id.
#pragma once
#include "lib/types.cuh"

__device__ __forceinline__ uint4 philox(u32 quad, u32 counter, u32 keyLow, u32 keyHigh) {
  uint4 c = make_uint4(quad, counter, 0, 0);
#pragma unroll
  for (int round = 0; round < 10; round++) {
    const u64 first = u64(0xd2511f53u) * c.x;
    const u64 second = u64(0xcd9e8d57u) * c.z;
    c = make_uint4(u32(second >> 32) ^ c.y ^ keyLow, u32(second), u32(first >> 32) ^ c.w ^ keyHigh, u32(first));
    keyLow += 0x9e3779b9u;
    keyHigh += 0xbb67ae85u;
  }
  return c;
}

// -ln(-ln(1 - v)), v = (word + 1/2) / 2^32, by way of small v where f32 keeps its relative precision: the noise lies
// in [-2.9, 22.9], and tokens of probability 2^-32 can still win.
__device__ __forceinline__ float gumbel(u32 word) {
  const float v = fmaf(float(word), 2.3283064365386963e-10f, 1.1641532182693481e-10f);
  const float series = v * (1.0f + v * (0.5f + v * (0.33333333f + v * 0.25f)));
  const float exact = -logf(fmaxf(1.0f - v, 5.9604644775390625e-8f));
  return -logf(v < 0.015625f ? series : exact);
}

// The same within 1e-4, in a few instructions: finds the few tokens whose exact noise matters.
__device__ __forceinline__ float roughGumbel(u32 word) {
  const float v = fmaf(float(word), 2.3283064365386963e-10f, 1.1641532182693481e-10f);
  const float series = v * (1.0f + v * (0.5f + v * 0.33333333f));
  const float exact = -__logf(fmaxf(1.0f - v, 5.9604644775390625e-8f));
  return -__logf(v < 0.015625f ? series : exact);
}
