// GEMM for few rows (decode): bound by reading the weights once, so what matters is 16-byte loads, many in flight.
//
// A team owns COLUMNS weight rows against ROWS rows of a. Its lanes cut K: each lane takes eight elements of every
// weight row at a time, UNROLL times ahead, and the lanes' sums are added at the end. A team is SPLIT subgroups of
// LANES invocations (SUBGROUPS: subgroupAdd, then workgroup memory if SPLIT > 1), or LANES x SPLIT invocations that
// add through workgroup memory where the size of a subgroup is not known.
#if SUBGROUPS
enable subgroups;
#endif
#include "gemm_io.wgsl"

const GEMM_TEAM = {{LANES}}u * {{SPLIT}}u;
const GEMM_SUMS = {{ROWS}}u * {{COLUMNS}}u;
#if SILU
const GEMM_PAIRS = GEMM_SUMS / 4u; // pairs of outputs; gate and up sums alternate
#else
const GEMM_PAIRS = GEMM_SUMS / 2u;
#endif
#if SUBGROUPS
const GEMM_PARTS = {{SPLIT}}u; // partial sums of a team for each output
#else
const GEMM_PARTS = GEMM_TEAM;
#endif
#if SHARED
var<workgroup> gemm_parts: array<f32, {{TEAMS}}u * GEMM_SUMS * GEMM_PARTS>;
#endif

fn run(group: u32, groups: u32, lane: u32) {
  let team = lane / GEMM_TEAM;
  let member = lane % GEMM_TEAM;
#if SILU
  const team_columns = {{COLUMNS}}u / 2u;
#else
  const team_columns = {{COLUMNS}}u;
#endif
  const tile_columns = team_columns * {{TEAMS}}u;
  const step = GEMM_TEAM * 8u;
  let column_tiles = (params.columns + tile_columns - 1u) / tile_columns;
  for (var index = group; ; index += groups) {
    let tile = gemm_find_tile(index, {{ROWS}}u, column_tiles, 1u);
    if (!tile.found) {
      break;
    }
    let column = tile.column_tile * tile_columns + team * team_columns;
    var a_rows: array<u32, {{ROWS}}>;
    for (var i = 0u; i < {{ROWS}}u; i++) {
      a_rows[i] = gemm_input_row(min(tile.first_row + i, tile.end_row - 1u));
    }
    var w_rows: array<u32, {{COLUMNS}}>;
    for (var j = 0u; j < {{COLUMNS}}u; j++) {
#if SILU
      w_rows[j] = tile.weights + min(column + (j >> 1u), params.columns - 1u) + (j & 1u) * params.columns;
#else
      w_rows[j] = tile.weights + min(column + j, params.columns - 1u);
#endif
    }
    var sum = array<f32, GEMM_SUMS>();
    var k = member * 8u;
    // Whole steps without a test, so that all loads are issued before the first is used.
    for (; k + {{UNROLL}}u * step - step < params.k; k += {{UNROLL}}u * step) {
      var w: array<array<GemmRawW, {{COLUMNS}}>, {{UNROLL}}>;
      for (var u = 0u; u < {{UNROLL}}u; u++) {
        for (var j = 0u; j < {{COLUMNS}}u; j++) {
          w[u][j] = gemm_raw_w(w_rows[j], k + u * step);
        }
      }
      for (var u = 0u; u < {{UNROLL}}u; u++) {
        for (var i = 0u; i < {{ROWS}}u; i++) {
          let a = gemm_raw_a(a_rows[i], k + u * step);
          let low = gemm_low_a(a);
          let high = gemm_high_a(a);
          for (var j = 0u; j < {{COLUMNS}}u; j++) {
            sum[i * {{COLUMNS}}u + j] += dot(low, gemm_low_w(w[u][j])) + dot(high, gemm_high_w(w[u][j]));
          }
        }
      }
    }
#if UNROLL != 1
    for (; k < params.k; k += step) {
      var w: array<GemmRawW, {{COLUMNS}}>;
      for (var j = 0u; j < {{COLUMNS}}u; j++) {
        w[j] = gemm_raw_w(w_rows[j], k);
      }
      for (var i = 0u; i < {{ROWS}}u; i++) {
        let a = gemm_raw_a(a_rows[i], k);
        let low = gemm_low_a(a);
        let high = gemm_high_a(a);
        for (var j = 0u; j < {{COLUMNS}}u; j++) {
          sum[i * {{COLUMNS}}u + j] += dot(low, gemm_low_w(w[j])) + dot(high, gemm_high_w(w[j]));
        }
      }
    }
#endif
#if SUBGROUPS
    for (var s = 0u; s < GEMM_SUMS; s++) {
      sum[s] = subgroupAdd(sum[s]);
    }
#endif
#if SHARED
#if SUBGROUPS
    if (member % {{LANES}}u == 0u) {
      for (var s = 0u; s < GEMM_SUMS; s++) {
        gemm_parts[(team * GEMM_SUMS + s) * GEMM_PARTS + member / {{LANES}}u] = sum[s];
      }
    }
#else
    for (var s = 0u; s < GEMM_SUMS; s++) {
      gemm_parts[(team * GEMM_SUMS + s) * GEMM_PARTS + member] = sum[s];
    }
#endif
    workgroupBarrier();
    for (var pair = member; pair < GEMM_PAIRS; pair += GEMM_TEAM) {
#if SILU
      gemm_few_store(
        tile, column, pair,
        gemm_silu_mul(gemm_few_sum(team, 4u * pair, member), gemm_few_sum(team, 4u * pair + 1u, member)),
        gemm_silu_mul(gemm_few_sum(team, 4u * pair + 2u, member), gemm_few_sum(team, 4u * pair + 3u, member)),
      );
#else
      gemm_few_store(
        tile, column, pair, gemm_few_sum(team, 2u * pair, member), gemm_few_sum(team, 2u * pair + 1u, member),
      );
#endif
    }
    workgroupBarrier();
#else
    for (var pair = 0u; pair < GEMM_PAIRS; pair++) {
      if (member == pair % {{LANES}}u) {
#if SILU
        gemm_few_store(
          tile, column, pair,
          gemm_silu_mul(sum[4u * pair], sum[4u * pair + 1u]), gemm_silu_mul(sum[4u * pair + 2u], sum[4u * pair + 3u]),
        );
#else
        gemm_few_store(tile, column, pair, sum[2u * pair], sum[2u * pair + 1u]);
#endif
      }
    }
#endif
  }
}

#if SHARED
fn gemm_few_sum(team: u32, which: u32, first: u32) -> f32 {
  var sum = 0.0;
  for (var part = 0u; part < GEMM_PARTS; part++) {
    // Invocations start at different parts, so that they read different banks.
    sum += gemm_parts[(team * GEMM_SUMS + which) * GEMM_PARTS + (first + part) % GEMM_PARTS];
  }
  return sum;
}
#endif

// Stores output columns 2 * pair and the next one of a team, counted row by row.
fn gemm_few_store(tile: GemmTile, first_column: u32, pair: u32, first: f32, second: f32) {
  const row_pairs = GEMM_PAIRS / {{ROWS}}u;
  let row = tile.first_row + pair / row_pairs;
  let column = first_column + pair % row_pairs * 2u;
  if (row < tile.end_row && column < params.columns) {
    gemm_store_finished(gemm_output_row(row), column, first, second);
  }
}
#include "lib/main.wgsl"
