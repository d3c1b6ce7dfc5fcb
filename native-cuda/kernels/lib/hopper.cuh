// Hopper (sm_90a): mbarriers, TMA, clusters, operands of wgmma in shared memory.
#pragma once
#include "types.cuh"
#include "wgmma.cuh"

// ---- Barriers (mbarrier). A phase ends when `arrivals` threads arrived and all announced bytes came.
// waitBarrier(barrier, parity) returns when the phase of that parity (0, 1, 0, ...) has ended.
__device__ __forceinline__ void initBarrier(u32 barrier, u32 arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}
// After the initialisations, before others (threads, TMA, CTAs of the cluster) use the barriers.
__device__ __forceinline__ void fenceBarrierInit() {
  asm volatile("fence.mbarrier_init.release.cluster;\n\tfence.proxy.async.shared::cta;" ::: "memory");
}
__device__ __forceinline__ void arrive(u32 barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
__device__ __forceinline__ void arriveExpecting(u32 barrier, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
// At a barrier of any CTA of the cluster; the address comes from clusterAddress().
__device__ __forceinline__ void arriveInCluster(u32 barrier) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(barrier) : "memory");
}
__device__ __forceinline__ bool testBarrier(u32 barrier, u32 parity) {
  u32 done;
  asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
               : "=r"(done) : "r"(barrier), "r"(parity) : "memory");
  return done != 0;
}
__device__ __forceinline__ void waitBarrier(u32 barrier, u32 parity) {
  asm volatile("{ .reg .pred p; again%=: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1; @!p bra again%=; }"
               ::"r"(barrier), "r"(parity) : "memory");
}
// Barrier among `threads` threads of the CTA; ids 1 to 15 (0 is __syncthreads).
__device__ __forceinline__ void syncThreads(u32 id, u32 threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
// Ordinary writes to shared memory before, asynchronous reads of it (wgmma, TMA) after.
__device__ __forceinline__ void fenceSharedForAsync() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// ---- Clusters
__device__ __forceinline__ u32 clusterRank() {
  u32 rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ __forceinline__ u32 clusterAddress(u32 address, u32 rank) {
  u32 result;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(result) : "r"(address), "r"(rank));
  return result;
}
__device__ __forceinline__ void clusterArrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
__device__ __forceinline__ void clusterWait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }
__device__ __forceinline__ void clusterSync() {
  clusterArrive();
  clusterWait();
}

// ---- TMA. Coordinates are elements, innermost first; the box lands at `to`, its bytes are counted at `barrier`.
__device__ __forceinline__ void prefetchMap(const TensorMap &map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}
__device__ __forceinline__ void loadBox(u32 to, const TensorMap &map, u32 barrier, int x, int y) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];"
               ::"r"(to), "l"(&map), "r"(x), "r"(y), "r"(barrier) : "memory");
}
__device__ __forceinline__ void loadBox(u32 to, const TensorMap &map, u32 barrier, int x, int y, int z) {
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];"
               ::"r"(to), "l"(&map), "r"(x), "r"(y), "r"(z), "r"(barrier) : "memory");
}
__device__ __forceinline__ void loadBox(u32 to, const TensorMap &map, u32 barrier, int x, int y, int z, int w) {
  asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], [%6];"
               ::"r"(to), "l"(&map), "r"(x), "r"(y), "r"(z), "r"(w), "r"(barrier) : "memory");
}
// To the same place, with the same barrier, in every CTA of the cluster whose bit is set in `ctas`.
__device__ __forceinline__ void loadBoxInto(u32 to, const TensorMap &map, u32 barrier, u32 ctas, int x, int y) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
               "[%0], [%1, {%2, %3}], [%4], %5;"
               ::"r"(to), "l"(&map), "r"(x), "r"(y), "r"(barrier), "h"(u16(ctas)) : "memory");
}
__device__ __forceinline__ void loadBoxInto(u32 to, const TensorMap &map, u32 barrier, u32 ctas, int x, int y, int z, int w) {
  asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
               "[%0], [%1, {%2, %3, %4, %5}], [%6], %7;"
               ::"r"(to), "l"(&map), "r"(x), "r"(y), "r"(z), "r"(w), "r"(barrier), "h"(u16(ctas)) : "memory");
}

// What L2 should do with a box: drop it first, since nobody else reads it, or keep it for those who read it soon.
enum Keep { ONCE, LONG };
template <Keep KEEP> __device__ __forceinline__ u64 cachePolicy() {
  u64 policy;
  if (KEEP == ONCE) asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  else asm("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
__device__ __forceinline__ void loadBoxAs(u64 policy, u32 to, const TensorMap &map, u32 barrier, int x, int y) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
               "[%0], [%1, {%2, %3}], [%4], %5;"
               ::"r"(to), "l"(&map), "r"(x), "r"(y), "r"(barrier), "l"(policy) : "memory");
}
__device__ __forceinline__ void loadBoxAs(u64 policy, u32 to, const TensorMap &map, u32 barrier, int x, int y, int z) {
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
               "[%0], [%1, {%2, %3, %4}], [%5], %6;"
               ::"r"(to), "l"(&map), "r"(x), "r"(y), "r"(z), "r"(barrier), "l"(policy) : "memory");
}
__device__ __forceinline__ void loadBoxIntoAs(u64 policy, u32 to, const TensorMap &map, u32 barrier, u32 ctas, int x, int y) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster.L2::cache_hint "
               "[%0], [%1, {%2, %3}], [%4], %5, %6;"
               ::"r"(to), "l"(&map), "r"(x), "r"(y), "r"(barrier), "h"(u16(ctas)), "l"(policy) : "memory");
}

// ---- Operands of wgmma
// A tile of rows of 128 bytes with the 128-byte swizzle, as TMA writes it; groups of 8 rows are `groupBytes` apart. The
// tile starts at a multiple of 1024. The next 16 elements of K (of 16 bits): + 2.
__device__ __forceinline__ u64 swizzledTile(u32 address, u32 groupBytes = 1024) {
  return u64((address & 0x3FFFF) >> 4) | u64(1) << 16 | u64(groupBytes >> 4) << 32 | u64(1) << 62;
}

// Registers of a warpgroup's threads: at least or at most so many (multiples of 8).
template <int COUNT> __device__ __forceinline__ void raiseRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}
template <int COUNT> __device__ __forceinline__ void lowerRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}

// Four 8x8 matrices of 16-bit elements from registers, transposed: lane l gives the address of row l % 8 of matrix l / 8.
__device__ __forceinline__ void storeTransposed(u32 address, u32 m0, u32 m1, u32 m2, u32 m3) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};"
               ::"r"(address), "r"(m0), "r"(m1), "r"(m2), "r"(m3) : "memory");
}
