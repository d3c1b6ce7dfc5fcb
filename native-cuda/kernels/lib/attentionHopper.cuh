// What attention on Hopper needs beyond hopper.cuh: pinned registers, operands of wgmma. 128-byte swizzle everywhere: the
// 16-byte piece c of a 128-byte row r lies at c ^ (r % 8), blocks of 8 rows are 1024 bytes.
#pragma once
#include "attention.cuh"
#include "hopper.cuh"

// Keeps the compiler from moving accesses to these registers across this point. Needed after a wait (results are read
// from here on) and before wgmmaFence (a product reads registers that were written before the fence only; arithmetic
// that the compiler moves past it would race with the tensor cores).
template <int N> __device__ __forceinline__ void pin(float (&d)[N]) {
#pragma unroll
  for (int i = 0; i < N; i++) asm volatile("" : "+f"(d[i])::"memory");
}
template <int N> __device__ __forceinline__ void pin(u32 (&d)[N]) {
#pragma unroll
  for (int i = 0; i < N; i++) asm volatile("" : "+r"(d[i])::"memory");
}

// Descriptor of a swizzled operand: `leading` and `stride` are byte distances of blocks (see the callers).
__device__ __forceinline__ u64 operand(u32 address, u32 leading, u32 stride) {
  return u64((address & 0x3ffff) >> 4) | u64(leading >> 4) << 16 | u64(stride >> 4) << 32 | 1ull << 62;
}
