// Hopper idioms of the attention kernels: mbarriers, TMA copies, operands of wgmma. 128-byte swizzle everywhere: the 16-byte piece c
// of a 128-byte row r lies at c ^ (r % 8), blocks of 8 rows are 1024 bytes.
#pragma once
#include "attention.cuh"

__device__ __forceinline__ void barrierInit(u32 barrier, u32 arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
__device__ __forceinline__ void barrierInitDone() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
__device__ __forceinline__ void barrierExpect(u32 barrier, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
__device__ __forceinline__ void barrierArrive(u32 barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
__device__ __forceinline__ void barrierWait(u32 barrier, u32 parity) {
  asm volatile("{ .reg .pred done; AGAIN%=: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1; @!done bra AGAIN%=; }"
               ::"r"(barrier), "r"(parity) : "memory");
}
// Generic writes to shared memory before it become visible to TMA and wgmma after it.
__device__ __forceinline__ void proxyFence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

__device__ __forceinline__ void copyBox(u32 to, const TensorMap *map, int column, int row, int block, u32 barrier) {
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];"
               ::"r"(to), "l"(map), "r"(column), "r"(row), "r"(block), "r"(barrier) : "memory");
}
__device__ __forceinline__ void prefetchMap(const TensorMap *map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

template <int N> __device__ __forceinline__ void setRegistersUp() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N> __device__ __forceinline__ void setRegistersDown() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

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
