enable subgroups;
#include "gemm_io.wgsl"

fn run(group: u32, groups: u32, lane: u32) {
#if SILU
  const lane_columns = {{TN}}u / 2u;
#else
  const lane_columns = {{TN}}u;
#endif
  const tile_columns = {{LANES}}u * lane_columns;
  let column_tiles = (params.columns + tile_columns - 1u) / tile_columns;
  for (var index = group; ; index += groups) {
    let tile = gemm_find_tile(index, {{TM}}u, column_tiles, 1u);
    if (!tile.found) {
      break;
    }
    let column = tile.column_tile * tile_columns + lane * lane_columns;
    var a_rows: array<u32, {{TM}}>;
    for (var i = 0u; i < {{TM}}u; i++) {
      a_rows[i] = gemm_input_row(min(tile.first_row + i, tile.end_row - 1u));
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
    for (var block = 0u; block < params.k; block += 4u * {{LANES}}u) {
      let mine = block + 4u * lane;
      var a: array<vec4<f32>, {{TM}}>;
      for (var i = 0u; i < {{TM}}u; i++) {
        a[i] = gemm_load_a(a_rows[i], min(mine, params.k - 4u));
      }
      let stop = min({{LANES}}u, (params.k - block) >> 2u);
      for (var c = 0u; c < stop; c++) {
        for (var j = 0u; j < {{TN}}u; j++) {
          let w = gemm_load_w(w_rows[j], block + 4u * c);
          for (var i = 0u; i < {{TM}}u; i++) {
            sum[i * {{TN}}u + j] += dot(subgroupShuffle(a[i], c), w);
          }
        }
      }
    }
    for (var i = 0u; i < {{TM}}u; i++) {
      if (tile.first_row + i < tile.end_row) {
        let out_row = gemm_output_row(tile.first_row + i);
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
