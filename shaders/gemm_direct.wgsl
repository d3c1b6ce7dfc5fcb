// GEMM without workgroup memory: every invocation owns TM x TN outputs and walks K by itself.
//
// For software adapters, where a barrier costs more than the tile, and for operands whose K is not a multiple of
// four. A workgroup is LANES_M x LANES_N invocations. With LANES_N = 1 all of them use the same weight rows, and a
// CPU driver turns those loads into one scalar load and a broadcast; only with few rows do lanes go along columns.
#include "gemm_io.wgsl"

fn run(group: u32, groups: u32, lane: u32) {
  const tile_rows = {{TM}}u * {{LANES_M}}u;
#if SILU
  const tile_columns = {{TN}}u / 2u * {{LANES_N}}u;
  const lane_columns = {{TN}}u / 2u;
#else
  const tile_columns = {{TN}}u * {{LANES_N}}u;
  const lane_columns = {{TN}}u;
#endif
  let column_tiles = (params.columns + tile_columns - 1u) / tile_columns;
  for (var index = group; ; index += groups) {
    let tile = gemm_find_tile(index, tile_rows, column_tiles, 1u);
    if (!tile.found) {
      break;
    }
#if LANES_N == 1
    let column = tile.column_tile * tile_columns;
#else
    let column = tile.column_tile * tile_columns + lane % {{LANES_N}}u * lane_columns;
#endif
#if LANES_M == 1
    let row = tile.first_row;
#else
    let row = tile.first_row + lane / {{LANES_N}}u;
#endif
    // Rows and columns past the end repeat the last one and are not stored.
    var a_rows: array<u32, {{TM}}>;
    for (var i = 0u; i < {{TM}}u; i++) {
      a_rows[i] = gemm_input_row(min(row + i * {{LANES_M}}u, tile.end_row - 1u));
    }
    var w_rows: array<u32, {{TN}}>;
    for (var j = 0u; j < {{TN}}u; j++) {
#if SILU
      w_rows[j] = tile.weights + min(column + (j >> 1u), params.columns - 1u) + (j & 1u) * params.columns;
#else
      w_rows[j] = tile.weights + min(column + j, params.columns - 1u);
#endif
    }
    var sum = array<f32, {{TM}} * {{TN}}>();
    for (var k = 0u; k < params.k; k += 4u) {
      var a: array<vec4<f32>, {{TM}}>;
      for (var i = 0u; i < {{TM}}u; i++) {
        a[i] = gemm_load_a(a_rows[i], k);
      }
      for (var j = 0u; j < {{TN}}u; j++) {
        let w = gemm_load_w(w_rows[j], k);
        for (var i = 0u; i < {{TM}}u; i++) {
          sum[i * {{TN}}u + j] += dot(a[i], w);
        }
      }
    }
    for (var i = 0u; i < {{TM}}u; i++) {
      if (row + i * {{LANES_M}}u < tile.end_row) {
        let out_row = gemm_output_row(row + i * {{LANES_M}}u);
#if SILU
        for (var j = 0u; j < {{TN}}u; j += 4u) {
          let n = column + (j >> 1u);
          let s = i * {{TN}}u + j;
          if (n < params.columns) {
            gemm_store_pair(out_row, n, gemm_silu_mul(sum[s], sum[s + 1u]), gemm_silu_mul(sum[s + 2u], sum[s + 3u]));
          }
        }
#else
        for (var j = 0u; j < {{TN}}u; j += 2u) {
          let n = column + j;
          if (n < params.columns) {
            gemm_store_finished(out_row, n, sum[i * {{TN}}u + j], sum[i * {{TN}}u + j + 1u]);
          }
        }
#endif
      }
    }
  }
}
#include "lib/main.wgsl"
