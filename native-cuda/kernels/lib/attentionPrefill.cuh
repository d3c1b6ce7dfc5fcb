// Attention of tiles with 128 packed rows on wgmma: a producer warp copies K and V by TMA into a ring of STAGES tiles of
// KV_TILE tokens; two consumer warpgroups take 64 rows each. A consumer starts S = Q K^T of a tile, then O += P V of the
// tile before, and does the softmax while the tensor cores still work on the latter; the warpgroups take turns
// (PING_PONG), so that one computes exponentials while the other keeps the tensor cores busy. Tiles go from the end to
// the start: the masked ones come first.
//
// Macros: TYPE, OUT, HEAD_DIM (64, 128, 256), KV_TILE, STAGES, PING_PONG.
#pragma once
#include "attentionMerge.cuh"
#include "attentionHopper.cuh"
#include "wgmma.cuh"

#ifndef PING_PONG
#define PING_PONG 1
#endif
#ifndef RESCALE_AT
#define RESCALE_AT 8.f
#endif

struct PrefillInput {
  const u32 *meta;
  AttentionShape shape;
  const stored<TYPE> *q;
  const TensorMap *kMap, *vMap; // box: 64 columns x `box` rows x 1 block
  stored<OUT> *out;
  float *partialOut, *partialLse;
  u32 *counters; // not null: merge tiles here (mergeIfLast)
  u32 kvRows;    // rows of the KV cache: P * Hkv * S
  u32 box;       // tokens of a box: the largest power of two in the page size, at most KV_TILE
#if PROFILE
  u64 *profile;
  u32 records;
#endif
};

// Named barriers: BARRIER + 0, 1: a consumer warpgroup; + 2, 3: turns; + 4: both consumers.
template <int BARRIER> struct Prefill {
  static constexpr u32 BLOCKS = HEAD_DIM / 64;
  static constexpr u32 BLOCK = KV_TILE * 128; // bytes of 64 columns of a tile
  static constexpr u32 TILE = BLOCKS * BLOCK;
  static constexpr u32 Q_BLOCK = 64 * 128, Q_BYTES = BLOCKS * Q_BLOCK; // of one consumer
  static constexpr u32 KEYS = 2 * Q_BYTES, VALUES = KEYS + STAGES * TILE, BARRIERS = VALUES + STAGES * TILE;
  static constexpr u32 WORDS = BARRIERS + STAGES * 4 * 8; // items of the consumers, two each
  static constexpr u32 FLAG = WORDS + 2 * 2 * ITEM_WORDS * 4;
  static constexpr u32 BYTES = FLAG + 16;
  static constexpr int SCORES = KV_TILE / 2, RESULTS = HEAD_DIM / 2; // accumulators of a thread

  const PrefillInput &in;
  u8 *shared;
  u32 base;

  __device__ __forceinline__ Prefill(const PrefillInput &input, u8 *memory)
      : in(input), shared(memory), base(sharedAddress(memory)) {}
  __device__ __forceinline__ u32 keysFull(u32 stage) const { return base + BARRIERS + 8 * stage; }
  __device__ __forceinline__ u32 keysEmpty(u32 stage) const { return keysFull(stage) + STAGES * 8; }
  __device__ __forceinline__ u32 valuesFull(u32 stage) const { return keysFull(stage) + STAGES * 16; }
  __device__ __forceinline__ u32 valuesEmpty(u32 stage) const { return keysFull(stage) + STAGES * 24; }
  // One thread, before the CTA meets.
  static __device__ __forceinline__ void initBarriers(u32 base) {
    for (u32 i = 0; i < STAGES; i++) {
      const u32 first = base + BARRIERS + 8 * i;
      initBarrier(first, 1), initBarrier(first + STAGES * 8, 2);
      initBarrier(first + STAGES * 16, 1), initBarrier(first + STAGES * 24, 2);
    }
    fenceBarrierInit();
  }
  __device__ __forceinline__ u32 firstToken(const Item &item) const { return item.kvStart & ~(in.box - 1); }
  __device__ __forceinline__ u32 tilesOf(const Item &item) const {
    return item.kvEnd > item.kvStart ? (item.kvEnd - firstToken(item) + KV_TILE - 1) / KV_TILE : 0;
  }

  // One warp.
  __device__ __forceinline__ void produce() {
    const u32 lane = threadIdx.x % 32;
    const u32 copies = KV_TILE / in.box * BLOCKS; // of a tile
    const u32 ownBox = lane / BLOCKS * in.box, block = lane % BLOCKS; // lane `lane` brings this block of this box
    const u32 place = block * BLOCK + ownBox * 128;
    ItemWalk walk;
    walk.start();
    u32 index, stage = 0, parity = 1;
    while (walk.next(in.meta, in.shape, index)) {
      const Item item = readItem(in.meta + in.shape.items + index * ITEM_WORDS);
      const u32 tiles = tilesOf(item), first = firstToken(item);
      // Row of the KV cache where this lane's box of a tile begins; beyond the item: out of bounds, which reads as zero.
      auto rowOf = [&](u32 tile) -> u32 {
        u32 token = first + tile * KV_TILE + ownBox;
        if (tile >= tiles || token >= item.kvEnd || lane >= copies) return in.kvRows;
        u32 page = in.meta[in.shape.pages + item.pageStart + token / in.shape.pageSize];
        return (page * in.shape.kvHeads + item.kvHead) * in.shape.pageSize + token % in.shape.pageSize;
      };
      u32 nextRow = rowOf(tiles - 1);
      for (u32 tile = tiles; tile-- > 0;) {
        const u32 row = nextRow;
        if (tile > 0) nextRow = rowOf(tile - 1);
        waitBarrier(keysEmpty(stage), parity);
        if (lane == 0) arriveExpecting(keysFull(stage), TILE);
        __syncwarp();
        if (lane < copies) loadBox(base + KEYS + stage * TILE + place, *in.kMap, keysFull(stage), 0, row, block);
        waitBarrier(valuesEmpty(stage), parity);
        if (lane == 0) arriveExpecting(valuesFull(stage), TILE);
        __syncwarp();
        if (lane < copies) loadBox(base + VALUES + stage * TILE + place, *in.vMap, valuesFull(stage), 0, row, block);
        if (++stage == STAGES) stage = 0, parity ^= 1;
      }
    }
  }

  // Sends this warpgroup's 64 rows of Q on their way to shared memory.
  __device__ __forceinline__ void sendQuery(const Item &item, u32 group, u32 thread) {
    constexpr u32 PIECES = HEAD_DIM / 8; // of a row
    const u32 rows = itemRows(item, in.shape.group, 128), piece = thread % PIECES;
    const u32 to = base + group * Q_BYTES + piece / 8 * Q_BLOCK;
#pragma unroll
    for (u32 r = thread / PIECES; r < 64; r += 128 / PIECES) {
      const u32 row = min(64 * group + r, rows - 1);
      const stored<TYPE> *from = in.q + u64(denseRow(item, in.shape, item.rowStart + row)) * HEAD_DIM + piece * 8;
      copyAsync16(to + r * 128 + ((piece % 8) ^ (r % 8)) * 16, from, 64 * group + r < rows ? 16 : 0);
    }
  }
  __device__ __forceinline__ void takeTurn(u32 group) {
    if (PING_PONG) asm volatile("bar.sync %0, 256;" ::"r"(BARRIER + 2 + group) : "memory");
  }
  __device__ __forceinline__ void giveTurn(u32 group) {
    if (PING_PONG) asm volatile("bar.arrive %0, 256;" ::"r"(BARRIER + 3 - group) : "memory");
  }

  // S = Q K^T of a stage, started.
  __device__ __forceinline__ void startScores(float (&s)[SCORES], u32 group, u32 stage) {
    const u64 q = operand(base + group * Q_BYTES, 0, 1024), k = operand(base + KEYS + stage * TILE, 0, 1024);
#pragma unroll
    for (u32 i = 0; i < HEAD_DIM / 16; i++)
      wgmma<TYPE, KV_TILE>(s, q + (i / 4 * Q_BLOCK + i % 4 * 32) / 16, k + (i / 4 * BLOCK + i % 4 * 32) / 16, i > 0);
    wgmmaCommit();
  }
  // O += P V of a stage, started. V has the tokens as rows: `leading` is the distance of 64 columns, `stride` of 8 tokens.
  __device__ __forceinline__ void startResult(float (&o)[RESULTS], const u32 (&p)[SCORES / 2], u32 stage) {
    const u64 v = operand(base + VALUES + stage * TILE, BLOCK, 1024);
#pragma unroll
    for (u32 i = 0; i < KV_TILE / 16; i++)
      wgmmaRegisters<TYPE, HEAD_DIM, 1>(o, p[4 * i], p[4 * i + 1], p[4 * i + 2], p[4 * i + 3], v + i * 2048 / 16, 1);
    wgmmaCommit();
  }
  // V rows outside of the item (their weights are zero) must not be NaN. Every consumer clears all of them, so that none
  // waits for the other.
  __device__ __forceinline__ void clearValues(const Item &item, u32 token, u32 stage, u32 group, u32 thread) {
    static_assert(KV_TILE <= 128, "a thread clears one row at most");
    const u32 at = token + thread;
    if (thread < KV_TILE && (at < item.kvStart || at >= item.kvEnd)) {
      for (u32 piece = 0; piece < BLOCKS * 8; piece++)
        storeShared16(base + VALUES + stage * TILE + piece / 8 * BLOCK + thread * 128 + piece % 8 * 16, 0);
    }
    fenceSharedForAsync();
    barrierSync(BARRIER + group, 128);
  }

  // One warpgroup of consumers: `group` 0 or 1, `thread` within it.
  __device__ __forceinline__ void consume(u32 group, u32 thread) {
    const AttentionShape &shape = in.shape;
    const u32 lane = thread % 32, ownRow = 64 * group + thread / 32 * 16 + lane / 4; // and ownRow + 8
    u32 *words = reinterpret_cast<u32 *>(shared + WORDS) + group * 2 * ITEM_WORDS;
    ItemWalk walk;
    walk.start();
    u32 index, stage = 0, parity = 0, at = 0, nextIndex = 0;
    bool more = walk.next(in.meta, shape, index);
    if (!more) return;
    {
      const Item first = readItem(in.meta + shape.items + index * ITEM_WORDS);
      if (thread == 0) *reinterpret_cast<Item *>(words) = first;
      sendQuery(first, group, thread);
      commitCopies();
    }
    if (group == 1) giveTurn(1); // the first turn is group 0's
    float o[RESULTS], s[SCORES];
    u32 p[SCORES / 2];
#if PROFILE
    Profiler profiler(in.profile, in.records);
#endif
    do {
#if PROFILE
      profiler.begin();
#endif
      waitCopies<0>();
      fenceSharedForAsync();
      barrierSync(BARRIER + group, 128);
      const Item item = readItem(words + at * ITEM_WORDS);
      // The next item comes while this one is computed.
      more = walk.next(in.meta, shape, nextIndex);
      if (more && thread < 3)
        copyAsync16(sharedAddress(words + (at ^ 1) * ITEM_WORDS + 4 * thread),
                    in.meta + shape.items + nextIndex * ITEM_WORDS + 4 * thread, 16);
      commitCopies();

      const u32 rows = itemRows(item, shape.group, 128), first = firstToken(item), tiles = tilesOf(item);
      int start[2], end[2], allStart, allEnd, ignored;
      visible(item, shape.group, shape.window, item.rowStart + min(ownRow, rows - 1), start[0], end[0]);
      visible(item, shape.group, shape.window, item.rowStart + min(ownRow + 8, rows - 1), start[1], end[1]);
      visible(item, shape.group, shape.window, item.rowStart + min(64 * group, rows - 1), ignored, allEnd);
      visible(item, shape.group, shape.window, item.rowStart + min(64 * group + 63, rows - 1), allStart, ignored);

      float largest[2] = {NEGATIVE_INFINITY, NEGATIVE_INFINITY}, sum[2] = {0.f, 0.f}, factor[2];
      // Masks the scores of a tile, then turns them into weights; `factor`: what earlier sums and results lose.
      auto softmax = [&](u32 tile) {
        const int token = int(first + tile * KV_TILE);
        if (token < allStart || token + KV_TILE > allEnd) {
#pragma unroll
          for (int i = 0; i < SCORES; i++) {
            const int column = token + i / 4 * 8 + int(lane % 4) * 2 + i % 2, e = i / 2 % 2;
            if (column < start[e] || column >= end[e]) s[i] = NEGATIVE_INFINITY;
          }
        }
#pragma unroll
        for (int e = 0; e < 2; e++) {
          float most = s[2 * e];
#pragma unroll
          for (int i = 0; i < SCORES; i += 4) most = fmaxf(most, fmaxf(s[i + 2 * e], s[i + 2 * e + 1]));
          most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
          most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
          most = fmaxf(most, largest[e]);
          // A maximum that grew little is not worth rescaling: weights then reach 2^RESCALE_AT at most.
          if ((most - largest[e]) * shape.scale <= RESCALE_AT) most = largest[e];
          const float used = most == NEGATIVE_INFINITY ? 0.f : most * shape.scale;
          factor[e] = most == largest[e] ? 1.f : exp2Fast(largest[e] * shape.scale - used);
          largest[e] = most;
          sum[e] *= factor[e];
          float part = 0.f;
#pragma unroll
          for (int i = 0; i < SCORES; i += 4) {
            s[i + 2 * e] = exp2Fast(fmaf(s[i + 2 * e], shape.scale, -used));
            s[i + 2 * e + 1] = exp2Fast(fmaf(s[i + 2 * e + 1], shape.scale, -used));
            part += s[i + 2 * e] + s[i + 2 * e + 1];
          }
          sum[e] += part;
        }
      };
      auto pack = [&]() {
#pragma unroll
        for (int i = 0; i < SCORES / 2; i++) p[i] = packPair<TYPE>(s[2 * i], s[2 * i + 1]);
      };
      const bool startsWithin = item.kvStart != first;
#pragma unroll
      for (int i = 0; i < RESULTS; i++) o[i] = 0.f;

      if (tiles > 0) {
        u32 valueStage = stage, valueParity = parity;
        auto partial = [&](u32 tile) {
          return (first + (tile + 1) * KV_TILE > item.kvEnd && item.kvEnd % in.box != 0) || (tile == 0 && startsWithin);
        };
        waitBarrier(keysFull(stage), parity);
        takeTurn(group);
        wgmmaFence();
        startScores(s, group, stage);
        giveTurn(group);
        wgmmaWait<0>();
        pin(s);
        if (thread == 0) arrive(keysEmpty(stage));
        if (++stage == STAGES) stage = 0, parity ^= 1;
        softmax(tiles - 1);
        pack();
        for (u32 tile = tiles - 1; tile-- > 0;) {
          waitBarrier(valuesFull(valueStage), valueParity);
          if (partial(tile + 1)) clearValues(item, first + (tile + 1) * KV_TILE, valueStage, group, thread);
          waitBarrier(keysFull(stage), parity);
          takeTurn(group);
          pin(s), pin(o), pin(p);
          wgmmaFence();
          startScores(s, group, stage);
          startResult(o, p, valueStage);
          giveTurn(group);
          wgmmaWait<1>();
          pin(s);
          if (thread == 0) arrive(keysEmpty(stage));
          softmax(tile);
          wgmmaWait<0>();
          pin(o), pin(p);
          if (thread == 0) arrive(valuesEmpty(valueStage));
          pack();
          if (__any_sync(~0u, factor[0] != 1.f || factor[1] != 1.f)) {
#pragma unroll
            for (int i = 0; i < RESULTS; i++) o[i] *= factor[i / 2 % 2];
          }
          valueStage = stage, valueParity = parity;
          if (++stage == STAGES) stage = 0, parity ^= 1;
        }
        // The queries are used: those of the next item may come.
        prepareNext(more, words, at, group, thread);
        waitBarrier(valuesFull(valueStage), valueParity);
        if (partial(0)) clearValues(item, first, valueStage, group, thread);
        pin(o), pin(p);
        wgmmaFence();
        startResult(o, p, valueStage);
        wgmmaWait<0>();
        pin(o);
        if (thread == 0) arrive(valuesEmpty(valueStage));
      } else {
        prepareNext(more, words, at, group, thread);
      }
      finish(item, group, thread, ownRow, rows, o, largest, sum);
#if PROFILE
      if (thread == 0 && group == 0) profiler.end(ATTENTION_128, index);
#endif
      index = nextIndex, at ^= 1;
    } while (more);
    if (group == 0) takeTurn(0); // takes what group 1 gave last, so that the barrier ends as it began
  }

  __device__ __forceinline__ void prepareNext(bool more, const u32 *words, u32 at, u32 group, u32 thread) {
    waitCopies<0>();
    barrierSync(BARRIER + group, 128);
    if (more) sendQuery(readItem(words + (at ^ 1) * ITEM_WORDS), group, thread);
    commitCopies();
  }

  __device__ __forceinline__ void finish(const Item &item, u32 group, u32 thread, u32 ownRow, u32 rows,
                                         float (&o)[RESULTS], const float (&largest)[2], float (&sum)[2]) {
    const AttentionShape &shape = in.shape;
    const u32 lane = thread % 32;
#pragma unroll
    for (int e = 0; e < 2; e++) {
      sum[e] += __shfl_xor_sync(~0u, sum[e], 1);
      sum[e] += __shfl_xor_sync(~0u, sum[e], 2);
      const float inverse = sum[e] > 0.f ? 1.f / sum[e] : 0.f;
      const u32 row = ownRow + 8 * e;
      if (row >= rows) continue;
      if (item.chunkCount == 1) {
        stored<OUT> *to = in.out + u64(denseRow(item, shape, item.rowStart + row)) * HEAD_DIM + lane % 4 * 2;
#pragma unroll
        for (int i = 0; i < HEAD_DIM / 8; i++)
          storePair<OUT>(to + 8 * i, o[4 * i + 2 * e] * inverse, o[4 * i + 2 * e + 1] * inverse);
      } else {
        const u32 partialRow = item.partialStart + row * item.chunkCount + item.chunkIndex;
        float *to = in.partialOut + u64(partialRow) * HEAD_DIM + lane % 4 * 2;
#pragma unroll
        for (int i = 0; i < HEAD_DIM / 8; i++)
          storePair<F32>(to + 8 * i, o[4 * i + 2 * e] * inverse, o[4 * i + 2 * e + 1] * inverse);
        if (lane % 4 == 0)
          in.partialLse[partialRow] = sum[e] > 0.f ? largest[e] * shape.scale + log2Fast(sum[e]) : EMPTY_LSE;
      }
    }
    if (item.chunkCount > 1 && in.counters)
      mergeIfLast<OUT>(item, shape, HEAD_DIM, 0, rows, in.out, in.partialOut, in.partialLse, in.counters,
                       reinterpret_cast<volatile u32 *>(shared + FLAG), 128 * group + thread, 256, BARRIER + 4);
  }
};
