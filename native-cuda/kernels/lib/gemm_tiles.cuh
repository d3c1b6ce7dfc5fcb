// Tiles of the products that are not for one architecture (gemm_mma, gemm_simt), dense and grouped by expert: which
// rows and columns a tile has, and where its results go.
//
// Macros: GROUPED (rows are the slots of experts), BM and BN (tile), SILU (tiles hold gate and up columns in turns of
// 8), ADD (to what stands in the output), OUT (storage type).
#pragma once
#include "lib/vector.cuh"

// What every variant is told, in this order after the tensors.
struct GemmShape {
  u32 n, k;         // weight rows (of an expert), elements of a row
  u32 capacity;     // rows of the output
  u32 range;        // word of the metadata with the first row, then the end
  u32 ldc;          // elements of an output row
  u32 outColumn;
  u32 experts, expertFirst, topK; // grouped: experts of this piece, the first one, slots of a token
  u32 gatherToken;  // grouped: 1: inputs are rows of tokens, outputs slots; 0: inputs are slots, outputs rows of sources
};

struct Tile {
  u32 firstRow, rows; // rows (slots) that the tile holds: at least 1, at most BM
  u32 expert;
  u32 firstColumn; // of its weight rows; with SILU of the gate rows
};

// Columns of the output that a tile has.
#define TILE_COLUMNS (SILU ? BN / 2 : BN)

__device__ __forceinline__ u32 columnTiles(const GemmShape &shape) {
  return ((SILU ? shape.n / 2 : shape.n) + TILE_COLUMNS - 1) / TILE_COLUMNS;
}

// Row tiles of the call; grouped: `before` [experts + 1] in shared memory gets the tiles of all experts before each one.
__device__ __forceinline__ u32 countRowTiles(const GemmShape &shape, const Rows &rows, const u32 *expertStart,
                                             u32 *before) {
#if GROUPED
  if (threadIdx.x < 32) {
    u32 sum = 0;
    for (u32 base = 0; base < shape.experts; base += 32) {
      const u32 expert = base + threadIdx.x;
      const u32 *start = expertStart + shape.expertFirst + expert;
      const u32 tiles = expert < shape.experts ? (start[1] - start[0] + BM - 1) / BM : 0;
      u32 to = tiles;
      for (u32 step = 1; step < 32; step *= 2) {
        const u32 other = __shfl_up_sync(0xffffffffu, to, step);
        if (threadIdx.x >= step) to += other;
      }
      if (expert < shape.experts) before[expert] = sum + to - tiles;
      sum += __shfl_sync(0xffffffffu, to, 31);
    }
    if (threadIdx.x == 0) before[shape.experts] = sum;
  }
  __syncthreads();
  return before[shape.experts];
#else
  return (rows.end - rows.first + BM - 1) / BM;
#endif
}

// Tiles of the same columns follow each other: they share the weights.
__device__ __forceinline__ Tile tileOf(u32 unit, u32 rowTiles, const GemmShape &shape, const Rows &rows,
                                       const u32 *expertStart, const u32 *before) {
  Tile tile;
  const u32 columnTile = unit / rowTiles;
  u32 rowTile = unit - columnTile * rowTiles;
  tile.firstColumn = columnTile * TILE_COLUMNS;
  tile.expert = 0;
  u32 end = rows.end;
  tile.firstRow = rows.first;
#if GROUPED
  u32 low = 0, high = shape.experts; // the last expert whose tiles begin at or before this one
  while (high - low > 1) {
    const u32 middle = (low + high) / 2;
    if (before[middle] <= rowTile) low = middle;
    else high = middle;
  }
  tile.expert = low;
  rowTile -= before[low];
  tile.firstRow = expertStart[shape.expertFirst + low];
  end = expertStart[shape.expertFirst + low + 1];
#endif
  tile.firstRow += rowTile * BM;
  tile.rows = min(end - tile.firstRow, u32(BM));
  return tile;
}

// Row of the weights for row `at` of a tile (0 to BN - 1): gate and up rows in turns of 8 for SILU. Rows behind the end
// are some row that exists.
__device__ __forceinline__ u32 weightRow(const Tile &tile, u32 at, const GemmShape &shape) {
#if SILU
  const u32 half = shape.n / 2;
  const u32 column = min(tile.firstColumn + at / 16 * 8 + at % 8, half - 1);
  return at / 8 % 2 ? half + column : column;
#else
  return min(tile.firstColumn + at, shape.n - 1);
#endif
}

// Row of `a` for row `at` of a tile; rows behind the end are its last.
__device__ __forceinline__ u32 inputRow(const Tile &tile, u32 at, const GemmShape &shape, const u32 *slotSource) {
  const u32 row = tile.firstRow + min(at, tile.rows - 1);
#if GROUPED
  if (shape.gatherToken) return slotSource[row] / shape.topK;
#endif
  return row;
}

// Where row `at` of a tile goes in the output.
__device__ __forceinline__ u64 outputRow(const Tile &tile, u32 at, const GemmShape &shape, const u32 *slotSource) {
  const u32 row = tile.firstRow + at;
#if GROUPED
  if (!shape.gatherToken) return slotSource[row];
#endif
  return row;
}

// Writes two neighbouring columns of an output row; the second may lie behind the end.
__device__ __forceinline__ void storePair(stored<OUT> *row, u32 column, float first, float second, const float *bias,
                                          const GemmShape &shape) {
  const u32 columns = SILU ? shape.n / 2 : shape.n;
  if (column >= columns) return;
  stored<OUT> *to = row + shape.outColumn + column;
  const bool both = column + 1 < columns;
  if (bias) {
    first += bias[column];
    if (both) second += bias[column + 1];
  }
  if (both && (shape.ldc | shape.outColumn) % 2 == 0) {
    float values[2] = {first, second};
#if ADD
    float old[2];
    loadFloats<OUT>(to, old);
    values[0] += old[0];
    values[1] += old[1];
#endif
    storeFloats<OUT>(to, values);
    return;
  }
  to[0] = fromFloat<OUT>(ADD ? toFloat(to[0]) + first : first);
  if (both) to[1] = fromFloat<OUT>(ADD ? toFloat(to[1]) + second : second);
}
