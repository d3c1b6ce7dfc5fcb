// embed: gathers rows of one piece of the embedding table by token id. A work item is W elements of a row.
//
// Macros: TABLE (storage type), W (elements of an access).
#include "lib/vector.cuh"

#define FROM_SAMPLED 0x80000000u
#define SAMPLED_WORDS 44

extern "C" __global__ void __launch_bounds__(256, RESIDENT_THREADS / 256)
embed(const u32 *meta, const stored<TABLE> *table, const u32 *sampled, float *out, u32 columns, u32 capacity,
      u32 range, u32 tokenIds, u32 rowStart, u32 tableRows) {
  // The metadata does not change while a program runs, so it may be read before earlier launches are done.
  Rows rows = rowsOf(meta, range, capacity);
  u32 perRow = columns / W;
  u32 end = rows.end * perRow;
  waitForEarlier();
  letNextStart();
  for (u32 item = rows.first * perRow + blockIdx.x * blockDim.x + threadIdx.x; item < end;
       item += gridDim.x * blockDim.x) {
    u32 token = item / perRow;
    u32 column = (item - token * perRow) * W;
    u32 id = meta[tokenIds + token];
    if (id >= FROM_SAMPLED) id = sampled[(id - FROM_SAMPLED) * SAMPLED_WORDS];
    u32 row = id - rowStart;
    if (row >= tableRows) continue;
    float values[W];
    loadFloats<TABLE>(table + u64(row) * columns + column, values);
    storeFloats<F32>(out + u64(token) * columns + column, values);
  }
}
