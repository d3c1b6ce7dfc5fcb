// gemm_wgmma: out[m, outColumn + n] (+)= sum_k a[m, k] * w[n, k] + bias[n] for the rows m of a range; Hopper.
//
// The matrix instructions compute the transpose: weights are their rows (64 each), tokens their columns (8 to 256). So
// one kernel serves 1 row of `a` and 4096. A CTA has a warp or warpgroup of which one thread loads (TMA), and GROUPS
// warpgroups that multiply; a tile is GROUPS * 64 * BLOCKS weight rows x TOKENS tokens. CTAs of a cluster (CLUSTER_W
// along weights, CLUSTER_T along tokens) hold neighbouring tiles and load each operand tile once for those that share it.
//
// Whole tiles are dealt out in waves. The tiles of the last one or two waves are cut along K, when that keeps more clusters
// busy than it costs: all alike into equal ranges, so that what works at one time shares operands in L2, or so that every
// cluster gets as many steps of them as the others. The sums of the ranges meet in `scratch`; who has the last range of K
// adds them up, in the order of K.
//
// SILU: the rows of w are gate rows, then up rows; a tile holds 8 gate rows, 8 up rows, and so on in turn.
// PROFILE: records each tile, and each part of one (lib/profile.cuh).
#include "lib/gemmParts.cuh"
#include "lib/gemmWork.cuh"
#include "lib/gemmWrite.cuh"
#include "lib/profile.cuh"

__device__ __forceinline__ void loadWeights(u32 to, const TensorMap &map, u32 barrier, u32 step, u32 row, u32 rank) {
  // This CTA's share of the weight tile, for the CTAs with the same weights.
  constexpr u32 SHARE = WEIGHTS / CLUSTER_T;
  u32 part = rank / CLUSTER_W;
  row += part * SHARE;
  to += part * SHARE * ROW_BYTES;
  u32 ctas = (CLUSTER_T == 1 ? 1u : CLUSTER_W == 1 ? 3u : 5u) << (rank % CLUSTER_W);
  if (SILU) {
    if (CLUSTER_T == 1) loadBox(to, map, barrier, int(step * 64), 0, 0, int(row / 16));
    else loadBoxInto(to, map, barrier, ctas, int(step * 64), 0, 0, int(row / 16));
  } else {
    if (CLUSTER_T == 1) loadBox(to, map, barrier, int(step * 64), int(row));
    else loadBoxInto(to, map, barrier, ctas, int(step * 64), int(row));
  }
}
__device__ __forceinline__ void loadTokens(u32 to, const TensorMap &map, u32 barrier, u32 step, u32 row, u32 rank) {
  constexpr u32 SHARE = TOKENS / CLUSTER_W;
  u32 part = rank % CLUSTER_W;
  row += part * SHARE;
  to += part * SHARE * ROW_BYTES;
  // Every tile of weights reads the tokens again: beside attention, which streams its cache through L2, they should stay.
  const u64 policy = cachePolicy<LONG>();
  if (CLUSTER_W == 1) loadBoxAs(policy, to, map, barrier, int(step * 64), int(row));
  else loadBoxIntoAs(policy, to, map, barrier, 3u << (rank / CLUSTER_W * CLUSTER_W), int(step * 64), int(row));
}

// The loading warp (one lane of it).
__device__ __forceinline__ void load(Work work, u32 ring, u32 full, u32 empty, const TensorMap &weights,
                                     const TensorMap &tokens, u32 firstRow, u32 rank) {
  const u32 shareW = rank % CLUSTER_W, shareT = rank / CLUSTER_W;
  u32 stage = 0, parity = 1;
  // Weights are written by nobody: the first stages of them are under way before the launches before this one end.
  // With a cluster the other CTAs' barriers must be ready, which they are: the cluster has met.
  Work ahead = work;
  u32 early = 0;
  while (early < STAGES && ahead.next()) {
    u32 tileT, tileW;
    ahead.place(tileT, tileW);
    for (u32 step = ahead.from; step < ahead.to && early < STAGES; step++, early++) {
      arriveExpecting(full + 8 * early, STAGE_BYTES);
      loadWeights(ring + early * STAGE_BYTES, weights, full + 8 * early, step, (tileW * CLUSTER_W + shareW) * WEIGHTS, rank);
    }
  }
  waitForEarlier();
  while (work.next()) {
    u32 tileT, tileW;
    work.place(tileT, tileW);
    const u32 weightRow = (tileW * CLUSTER_W + shareW) * WEIGHTS;
    const u32 tokenRow = firstRow + (tileT * CLUSTER_T + shareT) * TOKENS;
    for (u32 step = work.from; step < work.to; step++) {
      const u32 at = ring + stage * STAGE_BYTES, barrier = full + 8 * stage;
      if (early > 0) {
        early--;
      } else {
        waitBarrier(empty + 8 * stage, parity);
        arriveExpecting(barrier, STAGE_BYTES);
        loadWeights(at, weights, barrier, step, weightRow, rank);
      }
      loadTokens(at + WEIGHT_BYTES, tokens, barrier, step, tokenRow, rank);
      if (++stage == STAGES) {
        stage = 0;
        parity ^= 1;
      }
    }
  }
}

extern "C" __global__ void LAUNCH_LIMITS
    gemm_wgmma(const __grid_constant__ TensorMap weights, const __grid_constant__ TensorMap tokens, const u32 *meta,
               u32 rangeWord, u32 capacity, u32 columns, u32 steps, u32 groupT, stored<OUT> *out, u32 ldc, u32 outColumn,
               const float *bias, float4 *scratch, u32 *counters
#if PROFILE
               ,
               u64 *profile, u32 records
#endif
    ) {
  extern __shared__ u8 shared[];
  const u32 ring = sharedAddress(shared) + 1023 & ~1023u;
  const u32 turns = ring + STAGES * STAGE_BYTES;
  const u32 full = turns + CONSUMERS / 32 * TURN_BYTES, empty = full + 8 * STAGES;
  const u32 rank = CLUSTER == 1 ? 0 : clusterRank();
  if (threadIdx.x == 0) {
    for (u32 stage = 0; stage < STAGES; stage++) {
      initBarrier(full + 8 * stage, 1);
      // All that read what this CTA's loads fill: its own warpgroups, and those it shares an operand with.
      initBarrier(empty + 8 * stage, GROUPS * (CLUSTER_W + CLUSTER_T - 1));
    }
    fenceBarrierInit();
  }
  if (CLUSTER == 1) __syncthreads();
  else clusterSync();

  // The metadata is written before the step's launches, by none of them.
  const Rows range = rowsOf(meta, rangeWord, capacity);
  const u32 rows = range.end - range.first;
  const Problem problem = {steps, (columns + COLUMNS * CLUSTER_W - 1) / (COLUMNS * CLUSTER_W), groupT};
  Work work(rows, blockIdx.x / CLUSTER, gridDim.x / CLUSTER, problem);

  if (threadIdx.x >= CONSUMERS) {
    if (REGISTERS > 0) lowerRegisters<LOADER_REGISTERS>();
    if (threadIdx.x == CONSUMERS) load(work, ring, full, empty, weights, tokens, range.first, rank);
    __syncwarp();
  } else {
    if (REGISTERS > 0) raiseRegisters<REGISTERS>();
    const u32 warp = threadIdx.x / 32 % 4;
    const u32 group = __shfl_sync(0xffffffff, threadIdx.x / 128, 0);
    // Thread 0 tells the own loads that a stage is free, threads 1 and 2 those of the CTAs that load into it, too.
    const u32 inGroup = threadIdx.x % 128;
    u32 told = empty;
    if (CLUSTER > 1) {
      u32 other = rank;
      if (inGroup == 1) other = CLUSTER_W == 2 ? rank ^ 1 : rank ^ CLUSTER_W;
      if (inGroup == 2) other = rank ^ CLUSTER_W;
      told = clusterAddress(empty, other);
    }
    const bool tells = inGroup < CLUSTER_W + CLUSTER_T - 1;
    auto release = [&](u32 stage) {
      if (tells) {
        if (CLUSTER == 1) arrive(told + 8 * stage);
        else arriveInCluster(told + 8 * stage);
      }
    };
    constexpr u32 GROUP_BYTES = BLOCKS * 64 * ROW_BYTES;
    const u64 weightTile = swizzledTile(ring + group * GROUP_BYTES, BLOCKS * 1024);
    const u64 tokenTile = swizzledTile(ring + WEIGHT_BYTES);
    const Output output = {out, bias, ldc, outColumn};
    u32 stage = 0, parity = 0;
    waitForEarlier();
    letNextStart();
#if PROFILE
    const Profiler profiler(profile, records);
#endif
    while (work.next()) {
#if PROFILE
      // From the first wait for operands to the last sum that is written or left for others.
      const ProfileScope scope(profiler, work.isPart() ? PRODUCT_PART : PRODUCT_TILE, work.tile, threadIdx.x == 0);
#endif
      Sums sums;
      u32 keep = 0;
      u32 step = work.from;
      do {
        waitBarrier(full + 8 * stage, parity);
        const u64 a = weightTile + stage * (STAGE_BYTES >> 4), b = tokenTile + stage * (STAGE_BYTES >> 4);
        wgmmaFence();
#pragma unroll
        for (u32 k = 0; k < 4; k++) {
#pragma unroll
          for (u32 block = 0; block < BLOCKS; block++)
            wgmma<IN, TOKENS>(sums[block], a + block * (1024 >> 4) + 2 * k, b + 2 * k, keep);
          keep = 1;
        }
        wgmmaCommit();
        // The other warpgroups keep the tensor cores busy. To have the next step's instructions queued here as well would
        // hold two stages, and one step less would be under way: that costs more where memory is shared with others.
        wgmmaWait<0>();
        release(stage);
        if (++stage == STAGES) {
          stage = 0;
          parity ^= 1;
        }
      } while (++step < work.to);
#pragma unroll
      for (u32 block = 0; block < BLOCKS; block++) wgmmaKeep(sums[block]);
      u32 tileT, tileW;
      work.place(tileT, tileW);
      if (SPLIT && work.isPart()) {
        if (!joinParts(sums, work, group, rank, scratch, counters)) continue;
      }
      const u32 row = (tileT * CLUSTER_T + rank / CLUSTER_W) * TOKENS;
      const u32 column = (tileW * CLUSTER_W + rank % CLUSTER_W) * COLUMNS + (group * 4 + warp) * (PIECES * 8);
      if (row < rows)
        writeTile(sums, output, columns, column, range.first + row, rows - row, turns + threadIdx.x / 32 * TURN_BYTES);
    }
  }
  // No CTA ends while others of its cluster may still tell it of free stages or load into it.
  if (CLUSTER > 1) clusterSync();
}
