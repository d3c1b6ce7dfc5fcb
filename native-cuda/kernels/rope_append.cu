// rope_append: per-head norm and rotary embedding of q and k; q to its own buffer, k and v into the KV pages. LANES
// neighbouring lanes of a warp take a head; each holds VALUES times W elements of the first half and the same of the
// second, which are the pairs that are rotated together.
//
// Macros: IN, Q, KV (storage types), W (elements of an access), LANES (power of two up to 32), VALUES, NORM.
#include "lib/vector.cuh"

extern "C" __global__ void __launch_bounds__(128, 6)
rope_append(const u32 *meta, const stored<IN> *qkv, const float *table, stored<Q> *q, stored<KV> *kCache,
            stored<KV> *vCache, const float *qNorm, const float *kNorm, u32 capacity, u32 range, u32 positions,
            u32 kvSlots, u32 heads, u32 kvHeads, u32 headDim, u32 pageSize, u32 cacheSlots, u32 tableRows,
            float epsilon) {
  const u32 lane = threadIdx.x % LANES;
  const u32 teams = gridDim.x * (blockDim.x / LANES);
  const u32 allHeads = heads + 2 * kvHeads;
  const u32 half = headDim / 2;
  Rows rows = rowsOf(meta, range, capacity);
  const u32 first = rows.first * allHeads;
  const u32 end = rows.end * allHeads;
  bool waited = false;
  // Lanes without a head go along with the others: sums are taken over whole warps.
  for (u32 base = first + ((blockIdx.x * blockDim.x + threadIdx.x) & ~31u) / LANES; base < end || !waited;
       base += teams) {
    const u32 item = base + (threadIdx.x % 32) / LANES;
    const bool there = item < end;
    const u32 token = there ? item / allHeads : 0;
    const u32 head = there ? item - token * allHeads : 0;
    const bool isQ = head < heads;
    const bool isV = head >= heads + kvHeads;
    float sines[VALUES][2 * W], norms[VALUES][2][W];
    u32 slot = 0;
    // Tables, weights and the metadata do not change while a program runs.
    if (there && !isV) {
      const float *angles = table + u64(min(meta[positions + token], tableRows - 1)) * headDim;
      const float *norm = isQ ? qNorm : kNorm;
#pragma unroll
      for (int i = 0; i < VALUES; i++) {
        u32 at = (i * LANES + lane) * W;
        if (at >= half) continue;
        loadFloats<F32>(angles + 2 * at, sines[i]);
        if (NORM) loadFloats<F32>(norm + at, norms[i][0]);
        if (NORM) loadFloats<F32>(norm + half + at, norms[i][1]);
      }
    }
    if (there && !isQ) slot = meta[kvSlots + token];
    if (!waited) {
      waitForEarlier();
      letNextStart();
      waited = true;
    }
    float values[VALUES][2][W];
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < VALUES; i++) {
      u32 at = (i * LANES + lane) * W;
      if (!there || at >= half) continue;
      const stored<IN> *from = qkv + u64(item) * headDim + at;
      loadFloats<IN>(from, values[i][0]);
      loadFloats<IN>(from + half, values[i][1]);
#pragma unroll
      for (int j = 0; NORM && j < W; j++)
        squares += values[i][0][j] * values[i][0][j] + values[i][1][j] * values[i][1][j];
    }
    if (NORM) {
#pragma unroll
      for (int width = LANES / 2; width > 0; width /= 2) squares += __shfl_xor_sync(0xffffffffu, squares, width);
    }
    if (!there) continue;
    const float scale = NORM ? 1.0f / sqrtf(squares / float(headDim) + epsilon) : 1.0f;
    const u32 kvHead = isQ ? 0 : (head - heads) % kvHeads;
    const u64 kvRow = (u64(slot / pageSize) * kvHeads + kvHead) * pageSize + slot % pageSize;
    if (!isQ && slot >= cacheSlots) continue;
#pragma unroll
    for (int i = 0; i < VALUES; i++) {
      u32 at = (i * LANES + lane) * W;
      if (at >= half) continue;
      if (!isV) {
#pragma unroll
        for (int j = 0; j < W; j++) {
          float a = values[i][0][j], b = values[i][1][j];
          if (NORM) {
            a *= scale * norms[i][0][j];
            b *= scale * norms[i][1][j];
          }
          values[i][0][j] = a * sines[i][2 * j] - b * sines[i][2 * j + 1];
          values[i][1][j] = b * sines[i][2 * j] + a * sines[i][2 * j + 1];
        }
      }
      if (isQ) {
        stored<Q> *to = q + (u64(token) * heads + head) * headDim + at;
        storeFloats<Q>(to, values[i][0]);
        storeFloats<Q>(to + half, values[i][1]);
      } else {
        stored<KV> *to = (isV ? vCache : kCache) + kvRow * headDim + at;
        storeFloats<KV>(to, values[i][0]);
        storeFloats<KV>(to + half, values[i][1]);
      }
    }
  }
}
