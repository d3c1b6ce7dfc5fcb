// Attention of tiles with 16 packed rows: bound by reading the KV cache, which attentionFeed.cuh does. The operands of
// mma.sync are swapped, so that the KV tokens fill its 16 rows and 8 packed rows are enough: S^T = K Q^T, O^T = V^T P^T.
// At the end of an item the warps of the CTA combine their results.
#pragma once
#include "attentionFeed.cuh"

template <int WARPS, int TILES, int DEPTH, int MAX_ROWS, int COMBINE_ROWS, int BARRIER>
struct Decode : DecodeFeed<WARPS, TILES, DEPTH, MAX_ROWS, COMBINE_ROWS> {
  typedef DecodeFeed<WARPS, TILES, DEPTH, MAX_ROWS, COMBINE_ROWS> Feed;
  using Feed::in; using Feed::shared; using Feed::base; using Feed::warp; using Feed::lane; using Feed::hasNext;
  using Feed::item; using Feed::items; using Feed::slot; using Feed::parity; using Feed::inFlight; using Feed::UNIT;
  using Feed::QUEUE; using Feed::THREADS; using Feed::BLOCKS; using Feed::BLOCK; using Feed::TILE; using Feed::HALF;
  using Feed::STEPS; using Feed::QUERY_ROW; using Feed::COMBINE_ROW; using Feed::QUERIES; using Feed::COMBINE;
  using Feed::STATS; using Feed::FLAG; using Feed::keysAt; using Feed::keysFull; using Feed::valuesFull;
  using Feed::queued; using Feed::firstToken; using Feed::start; using Feed::feedKeys; using Feed::feedValues;
  using Feed::feed; using Feed::waitFor; using Feed::sendQuery;

  __device__ __forceinline__ Decode(const DecodeInput &input, u8 *memory, u32 thread) : Feed(input, memory, thread) {}
  __device__ __forceinline__ float2 &stats(u32 ofWarp, u32 row) const {
    return reinterpret_cast<float2 *>(shared + STATS)[ofWarp * MAX_ROWS + row];
  }
  __device__ __forceinline__ float *combineRow(u32 ofWarp, u32 row) const {
    return reinterpret_cast<float *>(shared + COMBINE + (ofWarp * COMBINE_ROWS + row) * COMBINE_ROW);
  }
  __device__ __forceinline__ void meet() const { barrierSync(BARRIER, THREADS); }

  template <int NT> __device__ __forceinline__ void consume() {
    const AttentionShape &shape = in.shape;
    // The next item's queries come while this one is computed.
    if (items > 1) sendQuery(false, item + 1, (item + 1) % 2);
    else if (hasNext) sendQuery(true, 0, (item + 1) % 2);

    u32 token, end;
    int allStart, allEnd; // every row sees the tokens between these
    {
      const Item now = readItem(queued(item));
      const u32 rows = min(itemRows(now, shape.group, 16) - now.pad, u32(8 * NT)), row = now.rowStart + now.pad;
      int ignored;
      visible(now, shape.group, shape.window, row, ignored, allEnd);
      visible(now, shape.group, shape.window, row + rows - 1, allStart, ignored);
      token = firstToken(now.kvStart) + warp * UNIT, end = now.kvEnd > now.kvStart ? now.kvEnd : 0;
    }
    float result[NT][STEPS][4], largest[NT][2], sum[NT][2];
#pragma unroll
    for (int n = 0; n < NT; n++) {
      largest[n][0] = largest[n][1] = NEGATIVE_INFINITY, sum[n][0] = sum[n][1] = 0.f;
#pragma unroll
      for (int s = 0; s < STEPS; s++) result[n][s][0] = result[n][s][1] = result[n][s][2] = result[n][s][3] = 0.f;
    }
    // ldmatrix: which row and which 16-byte piece this lane names.
    const u32 keyOffset = lane % 16 * 128, keySwizzle = ((lane / 16) ^ (lane % 8)) * 16;
    const u32 valueOffset = (lane % 8 + lane / 16 * 8) * 128, valueSwizzle = ((lane / 8 % 2) ^ (lane % 8)) * 16;
    const u32 query = base + QUERIES + (item % 2 * MAX_ROWS + lane % 8) * QUERY_ROW + lane / 8 * 16;

    for (; token < end; token += WARPS * UNIT) {
      const u32 keys = keysAt(slot), valueBarrier = valuesFull(slot), phase = parity;
      waitFor(keysFull(slot), phase);
      // One tile: two chains of products, which are added later.
      constexpr int CHAINS = TILES == 1 ? 2 : TILES;
      float score[NT][CHAINS][4];
#pragma unroll
      for (int n = 0; n < NT; n++)
#pragma unroll
        for (int i = 0; i < 4 * CHAINS; i++) score[n][i / 4][i % 4] = 0.f;
#pragma unroll
      for (int s = 0; s < STEPS; s += 2) {
        u32 b[NT][4];
#pragma unroll
        for (int n = 0; n < NT; n++) {
          if (s + 1 < STEPS) ldmatrix4(b[n], query + n * 8 * QUERY_ROW + s * 32);
          else ldmatrix2(b[n], query + n * 8 * QUERY_ROW + s * 32);
        }
#pragma unroll
        for (int tile = 0; tile < TILES; tile++)
#pragma unroll
          for (int half = 0; half < 2; half++) {
            if (s + half >= STEPS) continue;
            u32 a[4];
            ldmatrix4(a, keys + keyOffset + (keySwizzle ^ ((s + half) % 4 * 32)) + (tile * TILE + (s + half) / 4 * BLOCK));
#pragma unroll
            for (int n = 0; n < NT; n++)
              mma<TYPE>(score[n][TILES == 1 ? half : tile], a, b[n][2 * half], b[n][2 * half + 1]);
          }
      }
      __syncwarp();
      // The keys of this slot are used: it may take those of a later unit, and its values once these are used too.
      inFlight--;
      if (++slot == DEPTH) slot = 0, parity ^= 1;
      const bool fed = feedKeys();

#pragma unroll
      for (int n = 0; n < NT; n++)
#pragma unroll
        for (int i = 0; i < 4 * TILES; i++) {
          float &value = score[n][i / 4][i % 4];
          value = (TILES == 1 ? value + score[n][1][i] : value) * shape.scale;
        }
      bool partial = false;
      if (int(token) < allStart || int(token + UNIT) > allEnd) {
        const Item now = readItem(queued(item));
        partial = token < now.kvStart || token + UNIT > now.kvEnd;
#pragma unroll
        for (int n = 0; n < NT; n++)
#pragma unroll
          for (int e = 0; e < 2; e++) {
            int start, stop;
            visible(now, shape.group, shape.window, now.rowStart + now.pad + 8 * n + 2 * (lane % 4) + e, start, stop);
#pragma unroll
            for (int half = 0; half < 2 * TILES; half++) {
              const int at = int(token + lane / 4) + 8 * half;
              if (at < start || at >= stop) score[n][half / 2][half % 2 * 2 + e] = NEGATIVE_INFINITY;
            }
          }
      }
      bool grew = false;
      float factor[NT][2];
      u32 weights[NT][TILES][2];
#pragma unroll
      for (int n = 0; n < NT; n++) {
#pragma unroll
        for (int e = 0; e < 2; e++) {
          float most = fmaxf(score[n][0][e], score[n][0][2 + e]);
#pragma unroll
          for (int tile = 1; tile < TILES; tile++) most = fmaxf(most, fmaxf(score[n][tile][e], score[n][tile][2 + e]));
          most = fmaxf(most, __shfl_xor_sync(~0u, most, 4));
          most = fmaxf(most, __shfl_xor_sync(~0u, most, 8));
          most = fmaxf(most, __shfl_xor_sync(~0u, most, 16));
          most = fmaxf(most, largest[n][e]);
          const float used = most == NEGATIVE_INFINITY ? 0.f : most;
          factor[n][e] = exp2Fast(largest[n][e] - used);
          grew |= most > largest[n][e];
          largest[n][e] = most;
          float part = 0.f;
#pragma unroll
          for (int tile = 0; tile < TILES; tile++) {
            score[n][tile][e] = exp2Fast(score[n][tile][e] - used);
            score[n][tile][2 + e] = exp2Fast(score[n][tile][2 + e] - used);
            part += score[n][tile][e] + score[n][tile][2 + e];
          }
          sum[n][e] = sum[n][e] * factor[n][e] + part;
        }
#pragma unroll
        for (int tile = 0; tile < TILES; tile++) {
          weights[n][tile][0] = transpose8x8(packPair<TYPE>(score[n][tile][0], score[n][tile][1]));
          weights[n][tile][1] = transpose8x8(packPair<TYPE>(score[n][tile][2], score[n][tile][3]));
        }
      }
      if (__any_sync(~0u, grew)) {
#pragma unroll
        for (int n = 0; n < NT; n++)
#pragma unroll
          for (int s = 0; s < STEPS; s++)
#pragma unroll
            for (int i = 0; i < 4; i++) result[n][s][i] *= factor[n][i % 2];
      }
      waitFor(valueBarrier, phase);
      const u32 values = keys + HALF;
#if TMA
      // Whatever stands in slots outside of the item (their weight is zero) must not be NaN.
      if (partial) {
        const Item now = readItem(queued(item));
        for (u32 i = lane; i < UNIT * BLOCKS * 8; i += 32) {
          const u32 r = i % UNIT, piece = i / UNIT;
          if (token + r < now.kvStart || token + r >= now.kvEnd)
            storeShared16(values + r / 16 * TILE + r % 16 * 128 + piece / 8 * BLOCK + piece % 8 * 16, 0);
        }
        __syncwarp();
      }
#endif
#pragma unroll
      for (int tile = 0; tile < TILES; tile++)
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
          u32 a[4];
          ldmatrix4Trans(a, values + valueOffset + (valueSwizzle ^ (s % 4 * 32)) + (tile * TILE + s / 4 * BLOCK));
#pragma unroll
          for (int n = 0; n < NT; n++) mma<TYPE>(result[n][s], a, weights[n][tile][0], weights[n][tile][1]);
        }
#if TMA
      if (partial) fenceSharedForAsync();
#endif
      __syncwarp();
      feedValues(fed);
    }
    combine<NT>(result, largest, sum);
  }

  // Adds up what the warps have of an item and writes it: to the output, or as partial rows of a split tile.
  template <int NT>
  __device__ __forceinline__ void combine(float (&result)[NT][STEPS][4], float (&largest)[NT][2], float (&sum)[NT][2]) {
#pragma unroll
    for (int n = 0; n < NT; n++)
#pragma unroll
      for (int e = 0; e < 2; e++) {
        sum[n][e] += __shfl_xor_sync(~0u, sum[n][e], 4);
        sum[n][e] += __shfl_xor_sync(~0u, sum[n][e], 8);
        sum[n][e] += __shfl_xor_sync(~0u, sum[n][e], 16);
        if (lane < 4) stats(warp, 8 * n + 2 * lane + e) = make_float2(largest[n][e], sum[n][e]);
      }
    waitCopies<0>(); // the next item's queries: visible to all after this meeting
    meet();
    const Item now = readItem(queued(item));
    const u32 rows = min(itemRows(now, in.shape.group, 16) - now.pad, u32(8 * NT));
    const bool split = now.chunkCount > 1;
#pragma unroll
    for (int n = 0; n < NT; n++)
#pragma unroll
      for (int e = 0; e < 2; e++) {
        const u32 row = 8 * n + 2 * (lane % 4) + e;
        float most = EMPTY_LSE, total = 0.f;
#pragma unroll
        for (int w = 0; w < WARPS; w++) most = fmaxf(most, stats(w, row).x);
#pragma unroll
        for (int w = 0; w < WARPS; w++) total += stats(w, row).y * exp2Fast(stats(w, row).x - most);
        const float factor = total > 0.f ? exp2Fast(largest[n][e] - most) / total : 0.f;
#pragma unroll
        for (int s = 0; s < STEPS; s++) result[n][s][e] *= factor, result[n][s][2 + e] *= factor;
        if (split && warp == 0 && lane < 4 && row < rows)
          in.partialLse[now.partialStart + (now.pad + row) * now.chunkCount + now.chunkIndex] =
              total > 0.f ? most + log2Fast(total) : EMPTY_LSE;
      }
    for (u32 pass = 0; pass < rows; pass += COMBINE_ROWS) {
      if (pass > 0) meet();
#pragma unroll
      for (int n = 0; n < NT; n++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
          const u32 row = 8 * n + 2 * (lane % 4) + e - pass;
          if (row < COMBINE_ROWS) {
            float *to = combineRow(warp, row) + lane / 4;
#pragma unroll
            for (int s = 0; s < STEPS; s++) {
              to[16 * s] = result[n][s][e];
              if (HEAD_DIM % 16 == 0 || s < STEPS - 1) to[16 * s + 8] = result[n][s][2 + e];
            }
          }
        }
      meet();
      constexpr u32 PAIRS = HEAD_DIM / 2;
      for (u32 i = warp * 32 + lane; i < COMBINE_ROWS * PAIRS; i += THREADS) {
        const u32 row = i / PAIRS, column = i % PAIRS * 2;
        if (pass + row >= rows) break;
        float x = 0.f, y = 0.f;
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
          const float2 part = *reinterpret_cast<const float2 *>(combineRow(w, row) + column);
          x += part.x, y += part.y;
        }
        const u32 tileRow = now.pad + pass + row;
        if (split) {
          const u32 to = now.partialStart + tileRow * now.chunkCount + now.chunkIndex;
          *reinterpret_cast<float2 *>(in.partialOut + u64(to) * HEAD_DIM + column) = make_float2(x, y);
        } else {
          storePair<OUT>(in.out + u64(denseRow(now, in.shape, now.rowStart + tileRow)) * HEAD_DIM + column, x, y);
        }
      }
    }
    if (split && in.counters)
      mergeIfLast<OUT>(now, in.shape, HEAD_DIM, now.pad, rows, in.out, in.partialOut, in.partialLse, in.counters,
                       reinterpret_cast<volatile u32 *>(shared + FLAG), warp * 32 + lane, THREADS, BARRIER);
  }

  __device__ __forceinline__ void run() {
    start();
    if (items == 0) return;
#if TMA
    waitCopies<0>();
#else
    waitCopies<2 * DEPTH>(); // the queries; units are still on their way
#endif
    meet();
#if PROFILE
    Profiler profiler(in.profile, in.records);
#endif
    while (items > 0) {
#if PROFILE
      profiler.begin();
#endif
      const u32 rows = queued(item)[3] * in.shape.group - queued(item)[5];
      if (MAX_ROWS == 8 || rows <= 8) consume<1>();
      else consume<MAX_ROWS == 8 ? 1 : 2>();
#if PROFILE
      if (warp == 0 && lane == 0) profiler.end(ATTENTION_16, item);
#endif
      __syncwarp();
      item++, items--;
      for (int i = 0; i < DEPTH; i++) feed();
    }
  }
};
