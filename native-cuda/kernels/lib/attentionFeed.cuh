// How the warps of the decode kernels get their data (attentionDecode.cuh computes with it). Each warp is a complete
// pipeline of its own: it takes every WARPS-th unit (TILES x 16 KV tokens) of an item, and keeps DEPTH units of K and V
// on their way to its part of shared memory, across items: words of items and pages are read before they are needed.
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

// MAX_ROWS 8: items with more rows are walked twice. COMBINE_ROWS: rows that are combined at a time (Decode).
template <int WARPS, int TILES, int DEPTH, int MAX_ROWS, int COMBINE_ROWS> struct DecodeFeed {
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

  __device__ __forceinline__ DecodeFeed(const DecodeInput &input, u8 *memory, u32 thread)
      : in(input), shared(memory), base(sharedAddress(memory)), warp(thread / 32), lane(thread % 32) {
    box = min(in.shape.pageSize & (0u - in.shape.pageSize), 16u);
    boxShift = 31 - __clz(box), unitShift = 31 - __clz(UNIT) - boxShift;
#if TMA
    if (lane == 0) {
      for (int i = 0; i < DEPTH; i++) initBarrier(keysFull(i), 1), initBarrier(valuesFull(i), 1);
      fenceBarrierInit();
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
    if (lane == 0) arriveExpecting(barrier, HALF);
    const u32 boxes = 1u << unitShift, at = __shfl_sync(~0u, row, firstBox + (lane & (boxes - 1)));
    const TensorMap *map = values ? in.vMap : in.kMap;
    if (box == 16) {
      if (lane < boxes) loadBoxAs(cachePolicy<ONCE>(), place + lane * TILE, *map, barrier, 0, at, 0);
    } else if (lane < boxes) { // pages of 8 tokens: half a tile, block by block
      for (u32 block = 0; block < BLOCKS; block++)
        loadBox(place + lane / 2 * TILE + lane % 2 * (BLOCK / 2) + block * BLOCK, *map, barrier, 0, at, block);
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
    waitBarrier(barrier, phase);
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
};
