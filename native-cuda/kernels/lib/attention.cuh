// What all attention kernels share: work items of the plan, output rows, mma.sync, ldmatrix, cp.async.
//
// Packed rows: the `group` query heads of a KV head lie side by side, so packed row r of a request is token r / group,
// head kvHead * group + r % group (plan/attentionTiles.ts).
#pragma once
#include "profile.cuh"
#include "types.cuh"

// Where a plan lies in the metadata, and the shape of the heads. Plain words; the launch passes them one by one.
struct AttentionShape {
  u32 items, indptr, lists; // first word of items and list starts; number of lists
  u32 pages;                // first word of the page tables
  u32 heads, kvHeads, group, pageSize;
  u32 window; // 0: none
  float scale; // times log2(e): softmax in base 2
};

// Words of an item (plan/stepMeta.ts: ITEM).
struct alignas(16) Item {
  u32 qoStart, pageStart, partialStart, qLen;
  u32 kvLen, rowStart, kvStart, kvEnd;
  u32 kvHead, chunkIndex, chunkCount, pad;
};
static constexpr u32 ITEM_WORDS = 12;
static constexpr u32 PARTIAL_NONE = 0xffffffffu;
static constexpr float EMPTY_LSE = -1e30f;
#define NEGATIVE_INFINITY __int_as_float(0xff800000)

__device__ __forceinline__ Item readItem(const u32 *words) {
  Item item;
  const uint4 *from = reinterpret_cast<const uint4 *>(words);
  uint4 *to = reinterpret_cast<uint4 *>(&item);
  to[0] = from[0], to[1] = from[1], to[2] = from[2];
  return item;
}

// The items of a CTA: lists blockIdx.x, + gridDim.x, ... one after the other.
struct ItemWalk {
  u32 list, at, end, total;
  bool started;
  __device__ __forceinline__ void start() { list = blockIdx.x, at = end = 0, started = false; }
  // Index of the next item in `index`; false when there is none.
  __device__ __forceinline__ bool next(const u32 *meta, const AttentionShape &shape, u32 &index) {
    while (at == end) {
      if (started) {
        if (end == total) return false; // later lists are empty
        list += gridDim.x;
      } else {
        total = meta[shape.indptr + shape.lists];
        started = true;
      }
      if (list >= shape.lists) {
        end = at = total;
        return false;
      }
      at = meta[shape.indptr + list], end = meta[shape.indptr + list + 1];
    }
    index = at++;
    return true;
  }
};

__device__ __forceinline__ u32 itemRows(const Item &item, u32 group, u32 tile) {
  return min(tile, item.qLen * group - item.rowStart);
}
// KV positions [start, end) that packed row `row` of the request sees within the item.
__device__ __forceinline__ void visible(const Item &item, u32 group, u32 window, u32 row, int &start, int &end) {
  int last = int(item.kvLen) - int(item.qLen) + int(row / group) + 1;
  end = min(last, int(item.kvEnd));
  start = window ? max(last - int(window), int(item.kvStart)) : int(item.kvStart);
}
// Row of `out` (and of q): token * heads + head.
__device__ __forceinline__ u32 denseRow(const Item &item, const AttentionShape &shape, u32 row) {
  u32 token = row / shape.group;
  return (item.qoStart + token) * shape.heads + item.kvHead * shape.group + (row - token * shape.group);
}

__device__ __forceinline__ float exp2Fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float log2Fast(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ void barrierSync(u32 id, u32 threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// mma.sync m16n8k16, 16-bit operands of type T, f32 accumulators.
template <int T> __device__ __forceinline__ void mma(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  if (T == BF16)
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ void ldmatrix4(u32 (&r)[4], u32 address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
}
__device__ __forceinline__ void ldmatrix2(u32 (&r)[4], u32 address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(address) : "memory");
}
__device__ __forceinline__ void ldmatrix4Trans(u32 (&r)[4], u32 address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
}
// Transposes an 8x8 matrix of 16-bit elements that the lanes of a warp hold as fragments.
__device__ __forceinline__ u32 transpose8x8(u32 pair) {
  u32 result;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(pair));
  return result;
}

// Copies 16 bytes to shared memory without registers; `bytes` 0 writes zeros.
__device__ __forceinline__ void copyAsync16(u32 to, const void *from, u32 bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
__device__ __forceinline__ void commitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> __device__ __forceinline__ void waitCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
__device__ __forceinline__ void storeShared16(u32 to, u32 word) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(to), "r"(word) : "memory");
}

// Two neighbouring outputs of a row.
template <int OUT_TYPE> __device__ __forceinline__ void storePair(stored<OUT_TYPE> *to, float low, float high) {
  if constexpr (OUT_TYPE == F32) *reinterpret_cast<float2 *>(to) = make_float2(low, high);
  else *reinterpret_cast<u32 *>(to) = packPair<OUT_TYPE>(low, high);
}
