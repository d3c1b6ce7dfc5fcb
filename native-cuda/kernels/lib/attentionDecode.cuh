// Attention of tiles with 16 packed rows: bound by reading the KV cache. Each warp is a complete pipeline of its own: it
// takes every WARPS-th unit (TILES x 16 KV tokens) of an item, and keeps DEPTH units of K and V on their way to its part
// of shared memory, across items. The operands are swapped, so that the KV tokens fill the 16 rows of mma.sync and 8 packed
// rows are enough: S^T = K Q^T, O^T = V^T P^T. At the end of an item the warps combine their results.
//
// Macros: TYPE (q and KV cache), OUT, HEAD_DIM (multiple of 8), TMA (1: tensor maps, page size a multiple of 8; 0: cp.async).
#pragma once
#if TMA
#include "attentionHopper.cuh"
#endif
#include "attentionMerge.cuh"

struct DecodeInput {
  const u32 *meta;
  AttentionShape shape;
  const stored<TYPE> *q;
#if TMA
  const TensorMap *kMap, *vMap; // box: 64 columns x 16 rows x all blocks; with pages of 8 tokens: x 8 rows x 1 block
#else
  const stored<TYPE> *k, *v;
#endif
  stored<OUT> *out;
  float *partialOut, *partialLse;
  u32 *counters; // not null: merge tiles here (mergeIfLast)
  u32 kvRows;    // rows of the KV cache: P * Hkv * S
#if PROFILE
  u64 *profile;
  u32 records;
#endif
};

// MAX_ROWS 8: items with more rows are walked twice. COMBINE_ROWS: rows that are combined at a time.
template <int WARPS, int TILES, int DEPTH, int MAX_ROWS, int COMBINE_ROWS, int BARRIER> struct Decode {
  static constexpr u32 UNIT = 16 * TILES, QUEUE = 4, NONE = 0xffffffffu, THREADS = WARPS * 32;
  static constexpr u32 BLOCKS = (HEAD_DIM + 63) / 64;
  static constexpr u32 BLOCK = 16 * 128, TILE = BLOCKS * BLOCK; // bytes of 64 columns of 16 tokens, of all columns
  static constexpr u32 HALF = TILES * TILE;                     // bytes of a unit of K or V
  static constexpr int STEPS = (HEAD_DIM + 15) / 16;
  static constexpr u32 QUERY_ROW = STEPS * 32 + 16, COMBINE_ROW = (HEAD_DIM + 4) * 4; // bytes, without bank conflicts
  // Parts of shared memory.
  static constexpr u32 QUERIES = WARPS * DEPTH * 2 * HALF; // after the rings of the warps; of two items
  static constexpr u32 COMBINE = QUERIES + 2 * MAX_ROWS * QUERY_ROW;
  static constexpr u32 STATS = COMBINE + WARPS * COMBINE_ROWS * COMBINE_ROW;
  static constexpr u32 ITEMS = STATS + WARPS * MAX_ROWS * 8; // queues of the warps
  static constexpr u32 BARRIERS = ITEMS + WARPS * QUEUE * ITEM_WORDS * 4;
  static constexpr u32 FLAG = BARRIERS + WARPS * DEPTH * 16, BYTES = FLAG + 16;

  const DecodeInput &in;
  u8 *shared;
  u32 base, warp, lane; // base: of `shared`
  u32 box, boxShift, unitShift; // tokens of a box of K and V, its logarithm, and that of the boxes of a unit
  // Feeding: words of the next item and of the one after it; each lane has a box, `row` is where it begins in the KV cache
  // (in.kvRows beyond the item: out of bounds, which TMA reads as zero); units of the item that were sent.
  ItemWalk walk;
  u32 wordsNext, wordsAhead, row, pageNext, sent, toSend;
  bool hasNext, hasAhead, wide;
  // Items in the queue, from number `item` on; units on their way, from slot `slot` on.
  u32 item, items, slot, parity, inFlight;

  __device__ __forceinline__ Decode(const DecodeInput &input, u8 *memory, u32 thread)
      : in(input), shared(memory), base(sharedAddress(memory)), warp(thread / 32), lane(thread % 32) {
    box = min(in.shape.pageSize & (0u - in.shape.pageSize), 16u);
    boxShift = 31 - __clz(box), unitShift = 31 - __clz(UNIT) - boxShift;
#if TMA
    if (lane == 0) {
      for (int i = 0; i < DEPTH; i++) barrierInit(keysFull(i), 1), barrierInit(valuesFull(i), 1);
      barrierInitDone();
    }
    __syncwarp();
#endif
  }
  __device__ __forceinline__ u32 keysAt(u32 to) const { return base + (warp * DEPTH + to) * (2 * HALF); }
  __device__ __forceinline__ u32 keysFull(u32 of) const { return base + BARRIERS + (warp * DEPTH + of) * 16; }
  __device__ __forceinline__ u32 valuesFull(u32 of) const { return keysFull(of) + 8; }
  __device__ __forceinline__ const u32 *queued(u32 number) const {
    return reinterpret_cast<const u32 *>(shared + ITEMS) + (warp * QUEUE + number % QUEUE) * ITEM_WORDS;
  }
  __device__ __forceinline__ float2 &stats(u32 ofWarp, u32 row) const {
    return reinterpret_cast<float2 *>(shared + STATS)[ofWarp * MAX_ROWS + row];
  }
  __device__ __forceinline__ float *combineRow(u32 ofWarp, u32 row) const {
    return reinterpret_cast<float *>(shared + COMBINE + (ofWarp * COMBINE_ROWS + row) * COMBINE_ROW);
  }
  __device__ __forceinline__ void meet() const { barrierSync(BARRIER, THREADS); }
  __device__ __forceinline__ u32 word(u32 words, u32 index) const { return __shfl_sync(~0u, words, index); }
  __device__ __forceinline__ u32 firstToken(u32 kvStart) const { return kvStart & ~(box - 1); }
  __device__ __forceinline__ u32 unitsOf(u32 start, u32 end) const {
    return end > start ? (end - firstToken(start) + UNIT - 1) / UNIT : 0;
  }
  __device__ __forceinline__ u32 batch() const { return 32 >> unitShift; } // units of a warp whose pages the lanes hold

  __device__ __forceinline__ u32 readAhead() {
    u32 index = 0;
    hasAhead = walk.next(in.meta, in.shape, index);
    return hasAhead && lane < ITEM_WORDS ? in.meta[in.shape.items + index * ITEM_WORDS + lane] : 0;
  }
  // First token of this lane's box, from unit `of` of this warp on.
  __device__ __forceinline__ u32 boxToken(u32 kvStart, u32 of) const {
    return firstToken(kvStart) + (warp + (of + (lane >> unitShift)) * WARPS) * UNIT + ((lane << boxShift) & (UNIT - 1));
  }
  __device__ __forceinline__ u32 readPages(u32 words, u32 of) const {
    const u32 token = boxToken(word(words, 6), of), end = word(words, 7), first = word(words, 1);
    return token < end ? in.meta[in.shape.pages + first + token / in.shape.pageSize] : NONE;
  }
  // Takes the pages that were read for unit `sent` on of the newest item in the queue.
  __device__ __forceinline__ void takePages() {
    const u32 *words = queued(item + items - 1);
    const u32 token = boxToken(words[6], sent);
    row = pageNext == NONE ? in.kvRows
                           : (pageNext * in.shape.kvHeads + words[8]) * in.shape.pageSize + token % in.shape.pageSize;
  }
  __device__ __forceinline__ void start() {
    walk.start();
    item = items = slot = parity = inFlight = sent = toSend = 0;
    wide = false;
    wordsNext = readAhead();
    hasNext = hasAhead;
    if (!hasNext) return;
    pageNext = readPages(wordsNext, 0);
    sendQuery(true, 0, 0);
    wordsAhead = readAhead();
    for (int i = 0; i < DEPTH; i++) feed();
  }
  // Puts the next item into the queue. False when there is none, or the queue is full.
  __device__ __forceinline__ bool nextItem() {
    if (!hasNext || items == QUEUE) return false;
    const u32 rows = min(16u, word(wordsNext, 3) * in.shape.group - word(wordsNext, 5));
    const bool again = rows > MAX_ROWS && !wide; // the second 8 rows follow
    __syncwarp();
    if (lane < ITEM_WORDS) const_cast<u32 *>(queued(item + items))[lane] = lane == 11 ? (wide ? MAX_ROWS : 0) : wordsNext;
    __syncwarp();
    items++;
    const u32 units = unitsOf(word(wordsNext, 6), word(wordsNext, 7));
    toSend = units > warp ? (units - warp + WARPS - 1) / WARPS : 0, sent = 0;
    takePages();
    wide = again;
    if (!again) {
      wordsNext = wordsAhead, hasNext = hasAhead;
      wordsAhead = hasNext ? readAhead() : 0;
    }
    nextPages();
    return true;
  }
  // Reads the pages that are needed after those at hand.
  __device__ __forceinline__ void nextPages() {
    const u32 from = sent + batch();
    if (from < toSend) pageNext = readPages(lane < ITEM_WORDS ? queued(item + items - 1)[lane] : 0, from);
    else if (hasNext) pageNext = readPages(wordsNext, 0);
  }

  // Sends one unit of K, or V, to slot `to`.
  __device__ __forceinline__ void send(bool values, u32 to) {
    const u32 place = keysAt(to) + (values ? HALF : 0), firstBox = (sent << unitShift) & 31;
#if TMA
    const u32 barrier = values ? valuesFull(to) : keysFull(to);
    if (lane == 0) barrierExpect(barrier, HALF);
    const u32 boxes = 1u << unitShift, at = __shfl_sync(~0u, row, firstBox + (lane & (boxes - 1)));
    const TensorMap *map = values ? in.vMap : in.kMap;
    if (box == 16) {
      if (lane < boxes) copyBox(place + lane * TILE, map, 0, at, 0, barrier);
    } else if (lane < boxes) { // pages of 8 tokens: half a tile, block by block
      for (u32 block = 0; block < BLOCKS; block++)
        copyBox(place + lane / 2 * TILE + lane % 2 * (BLOCK / 2) + block * BLOCK, map, 0, at, block, barrier);
    }
    __syncwarp();
#else
    constexpr u32 PIECES = BLOCKS * 8; // of 16 bytes in a row
    const u32 *words = queued(item + items - 1);
    const u32 token = firstToken(words[6]) + (warp + sent * WARPS) * UNIT, end = words[7];
    const stored<TYPE> *cache = values ? in.v : in.k;
#pragma unroll 4
    for (u32 i = lane; i < UNIT * PIECES; i += 32) {
      const u32 r = i / PIECES, piece = i % PIECES;
      const u32 at = __shfl_sync(~0u, row, firstBox + (r >> boxShift)) + (r & (box - 1));
      const bool valid = token + r < end && piece < HEAD_DIM / 8;
      copyAsync16(place + r / 16 * TILE + piece / 8 * BLOCK + r % 16 * 128 + ((piece % 8) ^ (r % 8)) * 16,
                  valid ? cache + u64(at) * HEAD_DIM + piece * 8 : cache, valid ? 16 : 0);
    }
#endif
  }
  // Finds the next unit and sends its K to the slot after those on their way. False: nothing now.
  __device__ __forceinline__ bool feedKeys() {
    bool found = true;
    while (found && sent == toSend) found = nextItem();
    if (inFlight == DEPTH) found = false;
    if (found) {
      if (sent > 0 && (sent & (batch() - 1)) == 0) {
        takePages();
        nextPages();
      }
      send(false, (slot + inFlight) % DEPTH);
    }
#if !TMA
    commitCopies();
#endif
    return found;
  }
  __device__ __forceinline__ void feedValues(bool found) {
    if (found) {
      send(true, (slot + inFlight) % DEPTH);
      sent++, inFlight++;
    }
#if !TMA
    commitCopies();
#endif
  }
  __device__ __forceinline__ void feed() { feedValues(feedKeys()); }
  __device__ __forceinline__ void waitFor(u32 barrier, u32 phase) const {
#if TMA
    barrierWait(barrier, phase);
#else
    waitCopies<2 * DEPTH - 1>(); // every unit commits two groups, and so does every unit that is not there
    __syncwarp();
#endif
  }

  // Sends the query rows of an item (its words in shared memory or, with `next`, in wordsNext) to place `to`.
  __device__ __forceinline__ void sendQuery(bool next, u32 number, u32 to) {
    const u32 *words = queued(number);
    const u32 qoStart = next ? word(wordsNext, 0) : words[0], qLen = next ? word(wordsNext, 3) : words[3];
    const u32 rowStart = next ? word(wordsNext, 5) : words[5], head = next ? word(wordsNext, 8) : words[8];
    const u32 pad = next ? (wide ? MAX_ROWS : 0) : words[11];
    const u32 rows = min(16u, qLen * in.shape.group - rowStart) - pad;
    constexpr u32 PIECES = STEPS * 2;
    for (u32 i = warp * 32 + lane; i < MAX_ROWS * PIECES; i += THREADS) {
      const u32 r = i / PIECES, piece = i % PIECES, row = rowStart + pad + r, token = row / in.shape.group;
      const bool valid = r < rows && piece < HEAD_DIM / 8;
      const u64 dense = u64(qoStart + token) * in.shape.heads + head * in.shape.group + (row - token * in.shape.group);
      copyAsync16(base + QUERIES + (to * MAX_ROWS + r) * QUERY_ROW + piece * 16,
                  valid ? in.q + dense * HEAD_DIM + piece * 8 : in.q, valid ? 16 : 0);
    }
    commitCopies();
  }

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
      if (partial) proxyFence();
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
