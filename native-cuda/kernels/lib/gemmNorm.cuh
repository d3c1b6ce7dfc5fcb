// gemm_wgmma: the norm between two products, done by both of them (NORMED, SCALED; gemmTile.cuh).
#pragma once
#include "gemmParts.cuh"
#include "gemmWrite.cuh"

// Columns of which `squares` has one sum: squares[column / 64][row], `stride` rows each.
constexpr u32 SQUARED = 64;

struct Norm {
  float *squares;
  u32 stride;
  const float *weights; // NORMED: of the norm that follows
  stored<IN> *normed;   // NORMED: has the stride of the stream
  float epsilon;        // SCALED
  u32 size;             // SCALED: columns that the squares are of
};

#if NORMED
// The place of sums[BLOCKS][...] that valueOf reads.
__device__ __forceinline__ float &placeOf(Sums &sums, u32 piece, u32 i) {
  return BLOCKS == 2 ? sums[piece % 2][i + piece / 2 * 2] : sums[0][i + piece * 2];
}

// In place of writeTile; all threads of a warpgroup. `turns`: TURN_BYTES of each of its warps.
__device__ __forceinline__ void addNormed(Sums &sums, const Output &output, const Norm &norm, u32 columns, u32 column,
                                          u32 row, u32 rows, u32 turns, u32 group) {
  constexpr u32 ALL = TOKENS / 8, BATCH = ALL % 4 == 0 ? 4 : ALL % 2 == 0 ? 2 : 1;
  const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4, turn = turns + warp * TURN_BYTES;
  float *const stream = reinterpret_cast<float *>(output.out) + output.outColumn + column + lane / 4;
  float weights[PIECES];
#pragma unroll
  for (u32 piece = 0; piece < PIECES; piece++) {
    const u32 at = column + piece * 8 + lane / 4;
    weights[piece] = at < columns ? norm.weights[output.outColumn + at] : 0.f;
  }
#pragma unroll
  for (u32 first = 0; first < ALL; first += BATCH) {
    float before[BATCH][2][PIECES];
    // Not through L1, which may hold what stood here in a launch before.
#pragma unroll
    for (u32 b = 0; b < BATCH * 2 * PIECES; b++) {
      const u32 token = (first + b / PIECES / 2) * 8 + lane % 4 * 2 + b / PIECES % 2, piece = b % PIECES;
      const bool there = token < rows && column + piece * 8 + lane / 4 < columns;
      before[b / PIECES / 2][b / PIECES % 2][piece] = there ? __ldcg(stream + u64(row + token) * output.ldc + piece * 8) : 0.f;
    }
#pragma unroll
    for (u32 b = 0; b < BATCH * 2; b++) {
      const u32 j = first + b / 2, e = b % 2, token = j * 8 + lane % 4 * 2 + e;
      float squares = 0;
#pragma unroll
      for (u32 piece = 0; piece < PIECES; piece++) {
        const bool there = token < rows && column + piece * 8 + lane / 4 < columns;
        float &value = placeOf(sums, piece, j * 4 + e);
        value = there ? value + before[b / 2][e][piece] : 0.f;
        if (there) stream[u64(row + token) * output.ldc + piece * 8] = value;
        squares += value * value;
        value *= weights[piece];
      }
#pragma unroll
      for (u32 width = 4; width < 32; width *= 2) squares += __shfl_xor_sync(0xffffffff, squares, width);
      if (lane < 4) asm volatile("st.shared.f32 [%0], %1;" ::"r"(turn + token * 4), "f"(squares) : "memory");
    }
  }
  syncThreads(1 + group, 128);
  // A warp has 16 or 32 columns of the 64 of a sum.
  constexpr u32 WARPS = SQUARED / (PIECES * 8), SUMS = 4 / WARPS;
  const u32 sum0 = (column - warp * PIECES * 8) / SQUARED;
#pragma unroll
  for (u32 i = threadIdx.x % 128; i < TOKENS * SUMS; i += 128) {
    const u32 token = i % TOKENS, sum = i / TOKENS;
    float squares = 0;
#pragma unroll
    for (u32 w = 0; w < WARPS; w++) {
      float more;
      asm volatile("ld.shared.f32 %0, [%1];" : "=f"(more) : "r"(turns + (sum * WARPS + w) * TURN_BYTES + token * 4) : "memory");
      squares += more;
    }
    if (token < rows && (sum0 + sum) * SQUARED < columns) norm.squares[(sum0 + sum) * norm.stride + row + token] = squares;
  }
  syncThreads(1 + group, 128);
  writeTurned<IN>([&](u32 piece, u32 i) { return placeOf(sums, piece, i); }, norm.normed, output.ldc, output.outColumn,
                  columns, column, row, rows, turn);
}
#endif

#if SCALED
// The squares of the rows of a tile, added up by the way while the steps of K, 64 columns each, go by. A thread of a
// warpgroup has a row of the tile, or two.
struct Squares {
  static constexpr u32 ROWS = TOKENS > 128 ? 2 : 1;
  const float *from[ROWS]; // null where there is no row
  u32 stride;
  float sum[ROWS], next[ROWS];

  __device__ Squares(const Norm &norm, u32 row, u32 rows) : stride(norm.stride) {
#pragma unroll
    for (u32 i = 0; i < ROWS; i++) {
      const u32 token = threadIdx.x % 128 + i * 128;
      from[i] = token < TOKENS && token < rows ? norm.squares + row + token : nullptr;
      sum[i] = next[i] = 0;
    }
  }
  // A step's load is added one step later.
  __device__ __forceinline__ void add(u32 step) {
#pragma unroll
    for (u32 i = 0; i < ROWS; i++) {
      sum[i] += next[i];
      if (from[i]) next[i] = __ldcg(from[i] + step * stride);
    }
  }
  // Of a tile whose steps were not all made here.
  __device__ __forceinline__ void addAll(u32 steps) {
#pragma unroll
    for (u32 i = 0; i < ROWS; i++) sum[i] = next[i] = 0;
#pragma unroll 8
    for (u32 step = 0; step < steps; step++) add(step);
  }
  // Scales the sums of the tile. `scales`: SCALE_BYTES of shared memory of this warpgroup.
  __device__ __forceinline__ void scale(Sums &sums, const Norm &norm, float *scales, u32 group) {
#pragma unroll
    for (u32 i = 0; i < ROWS; i++) {
      const u32 token = threadIdx.x % 128 + i * 128;
      if (token < TOKENS) scales[token] = 1.0f / sqrtf((sum[i] + next[i]) / float(norm.size) + norm.epsilon);
    }
    syncThreads(1 + group, 128);
#pragma unroll
    for (u32 j = 0; j < TOKENS / 8; j++) {
      const float2 two = *reinterpret_cast<const float2 *>(scales + j * 8 + threadIdx.x % 4 * 2);
#pragma unroll
      for (u32 block = 0; block < BLOCKS; block++) {
        sums[block][j * 4] *= two.x;
        sums[block][j * 4 + 1] *= two.y;
        sums[block][j * 4 + 2] *= two.x;
        sums[block][j * 4 + 3] *= two.y;
      }
    }
    syncThreads(1 + group, 128);
  }
};
#endif
