// GEMM by register tiles fed from workgroup memory, for GPUs without subgroup matrices: f32 arithmetic, any storage.
//
// 16 x 16 or 8 x 8 invocations (SIDE) own TM x TN outputs each. Both tiles are staged as rows of vec4 along K, and
// each step multiplies TM + TN of those vectors pairwise; rows are one vector longer than the tile so that neighbours
// read different banks. Columns of an invocation come in pairs, which are one word of f16 output.
#include "gemm_io.wgsl"

const GEMM_THREADS = {{SIDE}}u * {{SIDE}}u;
const GEMM_BM = {{TM}}u * {{SIDE}}u;
const GEMM_BN = {{TN}}u * {{SIDE}}u;
const GEMM_QUADS = {{BK}}u / 4u;
const GEMM_ROW = GEMM_QUADS + 1u;
const GEMM_FETCH = (GEMM_BM + GEMM_BN) * GEMM_QUADS / GEMM_THREADS;
var<workgroup> gemm_shared: array<vec4<f32>, (GEMM_BM + GEMM_BN) * GEMM_ROW>;

// Staged row j * SIDE + x of the weight tile is column j of the invocations with that x.
fn gemm_tile_column(first_column: u32, staged: u32) -> u32 {
  let x = staged % {{SIDE}}u;
  let j = staged / {{SIDE}}u;
#if SILU
  return first_column + 2u * x + (j >> 1u) % 2u + j / 4u * 2u * {{SIDE}}u;
#else
  return first_column + 2u * x + j % 2u + j / 2u * 2u * {{SIDE}}u;
#endif
}

fn gemm_tile_fetch(tile: GemmTile, first_column: u32, staged: u32, k: u32) -> vec4<f32> {
  if (k >= params.k) {
    return vec4<f32>();
  }
  if (staged < GEMM_BM) {
    return gemm_load_a(gemm_input_row(min(tile.first_row + staged, tile.end_row - 1u)), k);
  }
  let column = min(gemm_tile_column(first_column, staged - GEMM_BM), params.columns - 1u);
#if SILU
  return gemm_load_w(tile.weights + column + (staged - GEMM_BM) / {{SIDE}}u % 2u * params.columns, k);
#else
  return gemm_load_w(tile.weights + column, k);
#endif
}

fn run(group: u32, groups: u32, lane: u32) {
  let x = lane % {{SIDE}}u;
  let y = lane / {{SIDE}}u;
#if SILU
  const tile_columns = GEMM_BN / 2u;
#else
  const tile_columns = GEMM_BN;
#endif
  let column_tiles = (params.columns + tile_columns - 1u) / tile_columns;
  for (var index = group; ; index += groups) {
    let tile = gemm_find_tile(index, GEMM_BM, column_tiles, 8u);
    if (!tile.found) {
      break;
    }
    let first_column = tile.column_tile * tile_columns;
    var sum = array<f32, {{TM}} * {{TN}}>();
    var fetched: array<vec4<f32>, GEMM_FETCH>;
    for (var i = 0u; i < GEMM_FETCH; i++) {
      let e = lane + i * GEMM_THREADS;
      fetched[i] = gemm_tile_fetch(tile, first_column, e / GEMM_QUADS, e % GEMM_QUADS * 4u);
    }
    for (var k = 0u; k < params.k; k += {{BK}}u) {
      workgroupBarrier();
      for (var i = 0u; i < GEMM_FETCH; i++) {
        let e = lane + i * GEMM_THREADS;
        gemm_shared[e / GEMM_QUADS * GEMM_ROW + e % GEMM_QUADS] = fetched[i];
      }
      workgroupBarrier();
      for (var i = 0u; i < GEMM_FETCH; i++) {
        let e = lane + i * GEMM_THREADS;
        fetched[i] = gemm_tile_fetch(tile, first_column, e / GEMM_QUADS, k + {{BK}}u + e % GEMM_QUADS * 4u);
      }
      for (var quad = 0u; quad < GEMM_QUADS; quad++) {
        var a: array<vec4<f32>, {{TM}}>;
        for (var i = 0u; i < {{TM}}u; i++) {
          a[i] = gemm_shared[(y + i * {{SIDE}}u) * GEMM_ROW + quad];
        }
        for (var j = 0u; j < {{TN}}u; j++) {
          let w = gemm_shared[(GEMM_BM + x + j * {{SIDE}}u) * GEMM_ROW + quad];
          for (var i = 0u; i < {{TM}}u; i++) {
            sum[i * {{TN}}u + j] += dot(a[i], w);
          }
        }
      }
    }
    for (var i = 0u; i < {{TM}}u; i++) {
      let row = tile.first_row + y + i * {{SIDE}}u;
      if (row < tile.end_row) {
        let out_row = gemm_output_row(row);
#if SILU
        for (var j = 0u; j < {{TN}}u; j += 4u) {
          let column = gemm_tile_column(first_column, j * {{SIDE}}u + x);
          let s = i * {{TN}}u + j;
          if (column < params.columns) {
            gemm_store_pair(
              out_row, column, gemm_silu_mul(sum[s], sum[s + 1u]), gemm_silu_mul(sum[s + 2u], sum[s + 3u]),
            );
          }
        }
#else
        for (var j = 0u; j < {{TN}}u; j += 2u) {
          let column = gemm_tile_column(first_column, j * {{SIDE}}u + x);
          let s = i * {{TN}}u + j;
          if (column < params.columns) {
            gemm_store_finished(out_row, column, sum[s], sum[s + 1u]);
          }
        }
#endif
      }
    }
    // The next tile must not overwrite rows that others still read; its first barrier stands before its first store.
  }
}
#include "lib/main.wgsl"
