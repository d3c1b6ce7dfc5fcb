// gemm_wgmma: what is written of a tile.
#pragma once
#include "gemmTile.cuh"

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
