// gemm_wgmma: out[m, outColumn + n] (+)= sum_k a[m, k] * w[n, k] + bias[n] for the rows m of a range; Hopper.
//
// The matrix instructions compute the transpose: weights are their rows (64 each), tokens their columns (8 to 256). So
// one kernel serves 1 row of `a` and 4096. A CTA has a warp or warpgroup of which one thread loads (TMA), and GROUPS
// warpgroups that multiply; a tile is GROUPS * 64 * BLOCKS weight rows x TOKENS tokens. CTAs of a cluster (CLUSTER_W
// along weights, CLUSTER_T along tokens) hold neighbouring tiles and load each operand tile once for those that share it.
//
// Whole tiles are dealt out in waves. Of the last one or two waves every tile is cut into equal ranges of K, when that
// keeps more clusters busy than it costs; all tiles alike, so that what works at one time shares operands in L2. The
// sums of the ranges meet in `scratch`; who has the last range of K adds them up, in the order of K.
//
// SILU: the rows of w are gate rows, then up rows; a tile holds 8 gate rows, 8 up rows, and so on in turn.
#include "lib/hopper.cuh"

#ifndef CLUSTER_W
#define CLUSTER_W 1
#endif
#ifndef CLUSTER_T
#define CLUSTER_T 1
#endif
#ifndef GROUPS
#define GROUPS 2
#endif
// What it costs to join the parts of a tile, in steps; and how many parts of tiles a cluster has at most.
#ifndef JOIN_STEPS
#define JOIN_STEPS 8
#endif
#ifndef MOST_UNITS
#define MOST_UNITS 3
#endif
// CTAs that fit a multiprocessor: with 2, the next launch loads its first weights while this one ends.
#ifndef RESIDENT
#define RESIDENT 1
#endif
// Whether registers are left for 128 threads of another kernel, 80 each.
#ifndef GUEST
#define GUEST 0
#endif
// Registers of a thread when they have moved: of the loading warpgroup, of the others. 0: as many as at launch.
#define LOADER_REGISTERS (GROUPS == 3 ? 24 : 40)
#define REGISTERS (RESIDENT == 2 ? 0 : GROUPS == 3 ? 160 : GUEST ? 192 : 232)
#if GUEST
#define LAUNCH_LIMITS __maxnreg__(144)
#else
#define LAUNCH_LIMITS __launch_bounds__(CONSUMERS + LOADERS, RESIDENT)
#endif

// What it costs to join the parts of a tile, in steps; and how many parts of tiles a cluster has at most.
#ifndef JOIN_STEPS
#define JOIN_STEPS 8
#endif
#ifndef MOST_UNITS
#define MOST_UNITS 3
#endif
// CTAs that fit a multiprocessor: with 2, the next launch loads its first weights while this one ends.
#ifndef RESIDENT
#define RESIDENT 1
#endif
// Registers of a thread: of the loading warpgroup, of the others. 0: as many as at launch.
#ifndef LOADER_REGISTERS
#define LOADER_REGISTERS (GROUPS == 3 ? 24 : 40)
#endif
#ifndef REGISTERS
#define REGISTERS (RESIDENT == 1 ? GROUPS == 3 ? 160 : 232 : 0)
#endif

constexpr u32 CLUSTER = CLUSTER_W * CLUSTER_T;
constexpr u32 WEIGHTS = GROUPS * 64 * BLOCKS; // weight rows of a tile
constexpr u32 COLUMNS = SILU ? WEIGHTS / 2 : WEIGHTS; // output columns of a tile
constexpr u32 ROW_BYTES = 128; // of a step: 64 elements of K
constexpr u32 WEIGHT_BYTES = WEIGHTS * ROW_BYTES;
constexpr u32 TOKEN_BYTES = TOKENS * ROW_BYTES;
constexpr u32 STAGE_BYTES = WEIGHT_BYTES + TOKEN_BYTES;
constexpr u32 CONSUMERS = GROUPS * 128;
[[maybe_unused]] constexpr u32 LOADERS = REGISTERS > 0 ? 128 : 32; // registers move between whole warpgroups
// Groups of 8 output columns that a warp holds, and bytes in which it turns them (16-bit outputs).
constexpr u32 PIECES = SILU ? BLOCKS : 2 * BLOCKS;
constexpr u32 TURN_BYTES = OUT == F32 ? 0 : 1024;

static_assert(TOKENS % 8 == 0 && TOKENS <= 256, "tokens of a tile");
static_assert(WEIGHTS / CLUSTER_T % 16 == 0 && TOKENS / CLUSTER_W % 8 == 0, "shares of a cluster's CTAs");

struct Problem {
  u32 columns, capacity, steps, tilesW, groupT; // columns of out; steps of K; tiles are those of clusters
};

// Which part of which tile comes next for a cluster. Every thread of it walks the same list: whole tiles [0, whole),
// then `cut` tiles, each in `parts` ranges of K.
struct Work {
  u32 clusters, steps, tilesT, tilesW, groupT;
  u32 whole, cut, parts;
  u32 unit; // next: a whole tile, or `whole` + part * cut + tile
  // The current one: tile, steps [from, to) of K.
  u32 tile, part, from, to;

  // All threads of a warp: each weighs another way to cut.
  __device__ Work(u32 rows, u32 cluster, u32 clusters, const Problem &problem)
      : clusters(clusters), steps(problem.steps), tilesW(problem.tilesW), groupT(problem.groupT) {
    tilesT = (rows + TOKENS * CLUSTER_T - 1) / (TOKENS * CLUSTER_T);
    const u32 tiles = tilesT * tilesW, waves = tiles / clusters, rest = tiles - waves * clusters;
    whole = tiles;
    cut = 0;
    parts = 1;
    unit = cluster;
    if (SPLIT && rest > 0) {
      const u32 lane = threadIdx.x % 32;
      const u32 tryParts = lane % 16 + 1, tryCut = lane < 16 ? rest : rest + clusters;
      const u32 rounds = (tryCut * tryParts + clusters - 1) / clusters;
      u32 cost = (waves - lane / 16) * steps + rounds * ((steps + tryParts - 1) / tryParts + (tryParts > 1 ? JOIN_STEPS : 0));
      if (lane >= 16 && waves == 0 || tryParts > 1 && (rounds > MOST_UNITS || tryParts * 4 > steps)) cost = 0x3ffffff;
      const u32 best = __reduce_min_sync(0xffffffff, cost << 5 | lane) % 32;
      parts = best % 16 + 1;
      if (parts > 1) {
        cut = best < 16 ? rest : rest + clusters;
        whole = tiles - cut;
      }
    }
  }

  __device__ bool next() {
    if (unit >= whole + cut * parts) return false;
    tile = unit;
    part = 0;
    from = 0;
    to = steps;
    if (SPLIT && unit >= whole) {
      const u32 inCut = unit - whole;
      part = inCut / cut;
      tile = whole + inCut - part * cut;
      from = part * steps / parts;
      to = (part + 1) * steps / parts;
    }
    unit += clusters;
    return true;
  }
  __device__ bool isPart() const { return to - from < steps; }
  // Where the current tile is. Tiles run along tokens within groups of groupT, then along weights, so that the tiles at
  // work at one time share operands in L2.
  __device__ void place(u32 &tileT, u32 &tileW) const {
    u32 perGroup = groupT * tilesW, group = tile / perGroup, inGroup = tile - group * perGroup;
    u32 size = min(groupT, tilesT - group * groupT);
    tileW = inGroup / size;
    tileT = group * groupT + inGroup - tileW * size;
  }
};

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
  if (CLUSTER_W == 1) loadBox(to, map, barrier, int(step * 64), int(row));
  else loadBoxInto(to, map, barrier, 3u << (rank / CLUSTER_W * CLUSTER_W), int(step * 64), int(row));
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

typedef float Sums[BLOCKS][TOKENS / 2];

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

// Output values that a thread holds: piece = group of 8 columns, i = index within the accumulators of one row: 4 j + e.
// Rows of a block that lie 8 apart are the halves h; with BLOCKS = 2 the blocks take turns in groups of 8 rows.
__device__ __forceinline__ float valueOf(const Sums &sums, u32 piece, u32 i) {
  if (SILU) {
    const float gate = BLOCKS == 2 ? sums[0][i + 2 * piece] : sums[0][i];
    const float up = BLOCKS == 2 ? sums[BLOCKS - 1][i + 2 * piece] : sums[0][i + 2];
    return gate / (1 + __expf(-gate)) * up;
  }
  return BLOCKS == 2 ? sums[piece % 2][i + piece / 2 * 2] : sums[0][i + piece * 2];
}

struct Output {
  stored<OUT> *out;
  const float *bias;
  u32 ldc, outColumn;
};

// Writes the columns [column, + PIECES * 8) of this warp for the tokens [0, rows) of the tile, the first being `row`.
__device__ __forceinline__ void writeTile(const Sums &sums, const Output &output, u32 columns, u32 column, u32 row,
                                          u32 rows, u32 turn) {
  const u32 lane = threadIdx.x % 32;
  float bias[PIECES];
#pragma unroll
  for (u32 piece = 0; piece < PIECES; piece++) {
    const u32 at = column + piece * 8 + lane / 4;
    bias[piece] = BIAS && at < columns ? output.bias[at] : 0.f;
  }
#if OUT == F32
  // Eight lanes write 32 bytes side by side.
#pragma unroll
  for (u32 j = 0; j < TOKENS / 8; j++)
#pragma unroll
    for (u32 e = 0; e < 2; e++) {
      const u32 token = j * 8 + lane % 4 * 2 + e;
      const u32 at = (row + token) * output.ldc + output.outColumn + column + lane / 4;
#pragma unroll
      for (u32 piece = 0; piece < PIECES; piece++) {
        const float value = valueOf(sums, piece, j * 4 + e) + bias[piece];
        if (token < rows && column + piece * 8 + lane / 4 < columns) {
          // Nobody else adds to this element, so the order of additions is fixed.
          if (ADD) asm volatile("red.relaxed.gpu.global.add.f32 [%0], %1;" ::"l"(output.out + at + piece * 8), "f"(value) : "memory");
          else output.out[at + piece * 8] = value;
        }
      }
    }
#else
  // Turned in shared memory, four 8x8 matrices at a time: then a lane holds 8 columns of one token.
  constexpr u32 DEEP = 4 / PIECES; // groups of 8 tokens at a time
  const bool whole = (output.ldc % 8 == 0) & (output.outColumn % 8 == 0);
  const u32 myToken = lane / PIECES, myPiece = lane % PIECES;
  const u32 myColumn = column + myPiece * 8;
  auto chunk = [](u32 token, u32 piece) { // spread over the banks
    const u32 turned = PIECES == 4 ? token >> 1 & 3 : PIECES == 2 ? token >> 2 & 1 : 0;
    return (token * PIECES + (piece ^ turned)) * 16;
  };
#pragma unroll
  for (u32 j = 0; j < TOKENS / 8; j += DEEP) {
    const u32 buffer = turn + j / DEEP % 2 * 512;
    u32 words[4];
#pragma unroll
    for (u32 m = 0; m < 4; m++) {
      const u32 jj = j + m / PIECES, piece = m % PIECES;
      words[m] = jj < TOKENS / 8 ? packPair<OUT>(valueOf(sums, piece, jj * 4) + bias[piece], valueOf(sums, piece, jj * 4 + 1) + bias[piece]) : 0;
    }
    const u32 m = lane / 8;
    storeTransposed(buffer + chunk(m / PIECES * 8 + lane % 8, m % PIECES), words[0], words[1], words[2], words[3]);
    __syncwarp();
    uint4 values;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(values.x), "=r"(values.y), "=r"(values.z), "=r"(values.w) : "r"(buffer + chunk(myToken, myPiece)));
    const u32 token = j * 8 + myToken;
    if (token < rows && (TOKENS / 8 % DEEP == 0 || token < TOKENS)) {
      stored<OUT> *to = output.out + ((row + token) * output.ldc + output.outColumn + myColumn);
      if (whole && myColumn + 8 <= columns) {
        *reinterpret_cast<uint4 *>(to) = values;
      } else {
        const u32 pairs[4] = {values.x, values.y, values.z, values.w};
#pragma unroll
        for (u32 c = 0; c < 8; c++)
          if (myColumn + c < columns) to[c].bits = u16(pairs[c / 2] >> (c % 2 * 16));
      }
    }
  }
  __syncwarp();
#endif
}

extern "C" __global__ void LAUNCH_LIMITS
    gemm_wgmma(const __grid_constant__ TensorMap weights, const __grid_constant__ TensorMap tokens, const u32 *meta,
               u32 rangeWord, u32 capacity, u32 columns, u32 steps, u32 groupT, stored<OUT> *out, u32 ldc, u32 outColumn,
               const float *bias, float4 *scratch, u32 *counters) {
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
  letNextStart();

  // The metadata is written before the step's launches, by none of them.
  const Rows range = rowsOf(meta, rangeWord, capacity);
  const u32 rows = range.end - range.first;
  const Problem problem = {columns, capacity, steps, (columns + COLUMNS * CLUSTER_W - 1) / (COLUMNS * CLUSTER_W), groupT};
  Work work(rows, blockIdx.x / CLUSTER, gridDim.x / CLUSTER, problem);

  if (threadIdx.x >= CONSUMERS) {
    if (REGISTERS > 0) lowerRegisters<LOADER_REGISTERS>();
    if (threadIdx.x == CONSUMERS) load(work, ring, full, empty, weights, tokens, range.first, rank);
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
    while (work.next()) {
      Sums sums;
      u32 keep = 0;
      u32 before = STAGES;
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
        // The instructions of the step before have read their stage.
        wgmmaWait<1>();
        if (before < STAGES) release(before);
        before = stage;
        if (++stage == STAGES) {
          stage = 0;
          parity ^= 1;
        }
      } while (++step < work.to);
      wgmmaWait<0>();
#pragma unroll
      for (u32 block = 0; block < BLOCKS; block++) wgmmaKeep(sums[block]);
      release(before);
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
