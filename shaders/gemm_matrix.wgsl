// GEMM on subgroup matrices: f16 operands (f32 ones are rounded when staged), 16x16x16 products, f32 accumulation.
//
// A workgroup of SG_M x SG_N x SG_K subgroups of 32 makes BM x BN outputs. Per step of BK along K, all invocations
// stage both tiles in workgroup memory with 16-byte stores, having fetched them into registers while the step before
// was computed. (A second stage saves a barrier and measured slower: it halves the K that fits.) Each subgroup owns
// FM x FN result matrices; SG_K > 1 (few rows, long K) gives each subgroup its share of a step, and the partial
// results are added at the end.
// Rows in workgroup memory are PAD x 16 bytes longer than BK so that the eight rows that one matrix load touches lie
// in different banks.
// The result matrices are named variables (c<row><column>), switched by FM and FN, which are 1, 2 or 4: as an array
// they end up in memory and the kernel runs at a third of its speed (NVIDIA driver 580).
// No subgroupAdd and the like here: NVIDIA drivers have crashed on modules that hold both kinds of operation.
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
diagnostic(off, chromium.subgroup_matrix_uniformity);
#include "gemm_io.wgsl"

const GEMM_THREADS = {{SG_M}}u * {{SG_N}}u * {{SG_K}}u * 32u;
const GEMM_CHUNKS = {{BK}}u / 8u; // 16-byte chunks of one row of a tile
const GEMM_ROW = GEMM_CHUNKS + {{PAD}}u;
const GEMM_STAGE = ({{BM}}u + {{BN}}u) * GEMM_ROW;
const GEMM_FM = {{FM}}u; // BM / SG_M / 16
const GEMM_FN = {{FN}}u; // BN / SG_N / 16
const GEMM_FETCH_A = ({{BM}}u * GEMM_CHUNKS + GEMM_THREADS - 1u) / GEMM_THREADS;
const GEMM_FETCH_W = ({{BN}}u * GEMM_CHUNKS + GEMM_THREADS - 1u) / GEMM_THREADS;
// For the results, each subgroup has room for one row of matrices, 16 x (16 FN) f32, rows again padded.
const GEMM_RESULT_ROW = GEMM_FN * 4u + 1u;
const GEMM_RESULT = 16u * GEMM_RESULT_ROW;
const GEMM_SHARED = max(GEMM_STAGE, {{SG_M}}u * {{SG_N}}u * {{SG_K}}u * GEMM_RESULT);
var<workgroup> gemm_shared: array<vec4<u32>, GEMM_SHARED>;
#if TICKETS
@group(0) @binding({{TICKETS_AT}}) var<storage, read_write> gemm_tickets: array<atomic<u32>>;
var<workgroup> gemm_ticket: u32;
#endif

alias GemmLeft = subgroup_matrix_left<f16, 16, 16>;
alias GemmRight = subgroup_matrix_right<f16, 16, 16>;
alias GemmResult = subgroup_matrix_result<f32, 16, 16>;

// Weight row behind row `local` of the weight tile. With SILU, blocks of 16 gate rows and of 16 up rows alternate, so
// that a subgroup holds both halves of its outputs.
fn gemm_matrix_weight(tile: GemmTile, first_column: u32, local: u32) -> u32 {
#if SILU
  let column = min(first_column + local / 32u * 16u + local % 16u, params.columns - 1u);
  return tile.weights + column + (local / 16u % 2u) * params.columns;
#else
  return tile.weights + min(first_column + local, params.columns - 1u);
#endif
}

fn run(group: u32, groups: u32, lane: u32) {
  let subgroup = lane / 32u;
  let sub_k = subgroup % {{SG_K}}u;
  let sub_n = subgroup / {{SG_K}}u % {{SG_N}}u;
  let sub_m = subgroup / ({{SG_K}}u * {{SG_N}}u);
#if SILU
  const tile_columns = {{BN}}u / 2u;
#else
  const tile_columns = {{BN}}u;
#endif
  let column_tiles = (params.columns + tile_columns - 1u) / tile_columns;
#if TICKETS
  loop {
    if (lane == 0u) {
      gemm_ticket = atomicAdd(&gemm_tickets[0], 1u);
    }
    let index = workgroupUniformLoad(&gemm_ticket);
#else
  for (var index = group; ; index += groups) {
#endif
    let tile = gemm_find_tile(index, {{BM}}u, column_tiles, {{BAND}}u);
    if (!tile.found) {
      break;
    }
    let first_column = tile.column_tile * tile_columns;
#if PARTS == 1
    let first_k = 0u;
    let steps = (params.k + {{BK}}u - 1u) / {{BK}}u;
#else
    let first_k = tile.part * params.part_k;
    let steps = (min(params.k, first_k + params.part_k) - min(params.k, first_k) + {{BK}}u - 1u) / {{BK}}u;
#endif
    var a_rows: array<u32, GEMM_FETCH_A>;
    for (var i = 0u; i < GEMM_FETCH_A; i++) {
      let local = (lane + i * GEMM_THREADS) / GEMM_CHUNKS;
      a_rows[i] = gemm_input_row(min(tile.first_row + local, tile.end_row - 1u));
    }
    var w_rows: array<u32, GEMM_FETCH_W>;
    for (var i = 0u; i < GEMM_FETCH_W; i++) {
      w_rows[i] = gemm_matrix_weight(tile, first_column, min((lane + i * GEMM_THREADS) / GEMM_CHUNKS, {{BN}}u - 1u));
    }
    // Every chunk that an invocation stages has the same place in its row when THREADS is a multiple of CHUNKS.
    let chunk = lane % GEMM_CHUNKS;
    var c00 = GemmResult();
#if FN != 1
    var c01 = GemmResult();
#endif
#if FN == 4
    var c02 = GemmResult();
    var c03 = GemmResult();
#endif
#if FM != 1
    var c10 = GemmResult();
#if FN != 1
    var c11 = GemmResult();
#endif
#if FN == 4
    var c12 = GemmResult();
    var c13 = GemmResult();
#endif
#endif
#if FM == 4
    var c20 = GemmResult();
    var c30 = GemmResult();
#if FN != 1
    var c21 = GemmResult();
    var c31 = GemmResult();
#endif
#if FN == 4
    var c22 = GemmResult();
    var c23 = GemmResult();
    var c32 = GemmResult();
    var c33 = GemmResult();
#endif
#endif
    var fetched_a: array<vec4<u32>, GEMM_FETCH_A>;
    var fetched_w: array<vec4<u32>, GEMM_FETCH_W>;
    for (var i = 0u; i < GEMM_FETCH_A; i++) {
      fetched_a[i] = gemm_fetch_a(a_rows[i], first_k + chunk * 8u);
    }
    for (var i = 0u; i < GEMM_FETCH_W; i++) {
      fetched_w[i] = gemm_fetch_w(w_rows[i], first_k + chunk * 8u);
    }
    for (var step = 0u; step < steps; step++) {
      workgroupBarrier();
      for (var i = 0u; i < GEMM_FETCH_A; i++) {
        let local = (lane + i * GEMM_THREADS) / GEMM_CHUNKS;
        if ({{BM}}u * GEMM_CHUNKS % GEMM_THREADS == 0u || local < {{BM}}u) {
          gemm_shared[local * GEMM_ROW + chunk] = fetched_a[i];
        }
      }
      for (var i = 0u; i < GEMM_FETCH_W; i++) {
        let local = (lane + i * GEMM_THREADS) / GEMM_CHUNKS;
        if ({{BN}}u * GEMM_CHUNKS % GEMM_THREADS == 0u || local < {{BN}}u) {
          gemm_shared[({{BM}}u + local) * GEMM_ROW + chunk] = fetched_w[i];
        }
      }
      workgroupBarrier();
      // In a branch: NVIDIA's driver otherwise moves the loads down to where they are used, behind the barrier.
      if (step + 1u < steps) {
        let next = first_k + (step + 1u) * {{BK}}u + chunk * 8u;
        for (var i = 0u; i < GEMM_FETCH_A; i++) {
          fetched_a[i] = gemm_fetch_a(a_rows[i], next);
        }
        for (var i = 0u; i < GEMM_FETCH_W; i++) {
          fetched_w[i] = gemm_fetch_w(w_rows[i], next);
        }
      }
      let left_at = sub_m * GEMM_FM * 16u * GEMM_ROW;
      let right_at = ({{BM}}u + sub_n * GEMM_FN * 16u) * GEMM_ROW;
      for (var part = 0u; part < {{BK}}u / 16u / {{SG_K}}u; part++) {
        let k_at = (part * {{SG_K}}u + sub_k) * 2u;
        let left0 = subgroupMatrixLoad<GemmLeft, row_major>(&gemm_shared, left_at + 0u * GEMM_ROW + k_at, GEMM_ROW);
#if FM != 1
        let left1 = subgroupMatrixLoad<GemmLeft, row_major>(&gemm_shared, left_at + 16u * GEMM_ROW + k_at, GEMM_ROW);
#endif
#if FM == 4
        let left2 = subgroupMatrixLoad<GemmLeft, row_major>(&gemm_shared, left_at + 32u * GEMM_ROW + k_at, GEMM_ROW);
        let left3 = subgroupMatrixLoad<GemmLeft, row_major>(&gemm_shared, left_at + 48u * GEMM_ROW + k_at, GEMM_ROW);
#endif
        let right0 = subgroupMatrixLoad<GemmRight, col_major>(&gemm_shared, right_at + 0u * GEMM_ROW + k_at, GEMM_ROW);
        c00 = subgroupMatrixMultiplyAccumulate(left0, right0, c00);
#if FM != 1
        c10 = subgroupMatrixMultiplyAccumulate(left1, right0, c10);
#endif
#if FM == 4
        c20 = subgroupMatrixMultiplyAccumulate(left2, right0, c20);
        c30 = subgroupMatrixMultiplyAccumulate(left3, right0, c30);
#endif
#if FN != 1
        let right1 = subgroupMatrixLoad<GemmRight, col_major>(&gemm_shared, right_at + 16u * GEMM_ROW + k_at, GEMM_ROW);
        c01 = subgroupMatrixMultiplyAccumulate(left0, right1, c01);
#if FM != 1
        c11 = subgroupMatrixMultiplyAccumulate(left1, right1, c11);
#endif
#if FM == 4
        c21 = subgroupMatrixMultiplyAccumulate(left2, right1, c21);
        c31 = subgroupMatrixMultiplyAccumulate(left3, right1, c31);
#endif
#endif
#if FN == 4
        let right2 = subgroupMatrixLoad<GemmRight, col_major>(&gemm_shared, right_at + 32u * GEMM_ROW + k_at, GEMM_ROW);
        c02 = subgroupMatrixMultiplyAccumulate(left0, right2, c02);
#if FM != 1
        c12 = subgroupMatrixMultiplyAccumulate(left1, right2, c12);
#endif
#if FM == 4
        c22 = subgroupMatrixMultiplyAccumulate(left2, right2, c22);
        c32 = subgroupMatrixMultiplyAccumulate(left3, right2, c32);
#endif
        let right3 = subgroupMatrixLoad<GemmRight, col_major>(&gemm_shared, right_at + 48u * GEMM_ROW + k_at, GEMM_ROW);
        c03 = subgroupMatrixMultiplyAccumulate(left0, right3, c03);
#if FM != 1
        c13 = subgroupMatrixMultiplyAccumulate(left1, right3, c13);
#endif
#if FM == 4
        c23 = subgroupMatrixMultiplyAccumulate(left2, right3, c23);
        c33 = subgroupMatrixMultiplyAccumulate(left3, right3, c33);
#endif
#endif
      }
    }
    // Results go through workgroup memory, one row of matrices at a time, to be finished and stored by rows.
    let result_at = subgroup * GEMM_RESULT;
    workgroupBarrier();
    subgroupMatrixStore<row_major>(&gemm_shared, result_at + 0u, c00, GEMM_RESULT_ROW);
#if FN != 1
    subgroupMatrixStore<row_major>(&gemm_shared, result_at + 4u, c01, GEMM_RESULT_ROW);
#endif
#if FN == 4
    subgroupMatrixStore<row_major>(&gemm_shared, result_at + 8u, c02, GEMM_RESULT_ROW);
    subgroupMatrixStore<row_major>(&gemm_shared, result_at + 12u, c03, GEMM_RESULT_ROW);
#endif
    workgroupBarrier();
    gemm_matrix_store(tile, first_column, sub_m * GEMM_FM + 0u, sub_n * GEMM_FN, subgroup - sub_k, sub_k, lane % 32u);
#if FM != 1
    workgroupBarrier();
    subgroupMatrixStore<row_major>(&gemm_shared, result_at + 0u, c10, GEMM_RESULT_ROW);
#if FN != 1
    subgroupMatrixStore<row_major>(&gemm_shared, result_at + 4u, c11, GEMM_RESULT_ROW);
#endif
#if FN == 4
    subgroupMatrixStore<row_major>(&gemm_shared, result_at + 8u, c12, GEMM_RESULT_ROW);
    subgroupMatrixStore<row_major>(&gemm_shared, result_at + 12u, c13, GEMM_RESULT_ROW);
#endif
    workgroupBarrier();
    gemm_matrix_store(tile, first_column, sub_m * GEMM_FM + 1u, sub_n * GEMM_FN, subgroup - sub_k, sub_k, lane % 32u);
#endif
#if FM == 4
    workgroupBarrier();
    subgroupMatrixStore<row_major>(&gemm_shared, result_at + 0u, c20, GEMM_RESULT_ROW);
#if FN != 1
    subgroupMatrixStore<row_major>(&gemm_shared, result_at + 4u, c21, GEMM_RESULT_ROW);
#endif
#if FN == 4
    subgroupMatrixStore<row_major>(&gemm_shared, result_at + 8u, c22, GEMM_RESULT_ROW);
    subgroupMatrixStore<row_major>(&gemm_shared, result_at + 12u, c23, GEMM_RESULT_ROW);
#endif
    workgroupBarrier();
    gemm_matrix_store(tile, first_column, sub_m * GEMM_FM + 2u, sub_n * GEMM_FN, subgroup - sub_k, sub_k, lane % 32u);
    workgroupBarrier();
    subgroupMatrixStore<row_major>(&gemm_shared, result_at + 0u, c30, GEMM_RESULT_ROW);
#if FN != 1
    subgroupMatrixStore<row_major>(&gemm_shared, result_at + 4u, c31, GEMM_RESULT_ROW);
#endif
#if FN == 4
    subgroupMatrixStore<row_major>(&gemm_shared, result_at + 8u, c32, GEMM_RESULT_ROW);
    subgroupMatrixStore<row_major>(&gemm_shared, result_at + 12u, c33, GEMM_RESULT_ROW);
#endif
    workgroupBarrier();
    gemm_matrix_store(tile, first_column, sub_m * GEMM_FM + 3u, sub_n * GEMM_FN, subgroup - sub_k, sub_k, lane % 32u);
#endif
    workgroupBarrier();
  }
}

fn gemm_fetch_a(row: u32, k: u32) -> vec4<u32> {
#if EVEN
  return gemm_packed_a(gemm_raw_a(row, min(k, params.k - 8u))); // only the fetch after the last step is past K
#else
  if (k < params.k) {
    return gemm_packed_a(gemm_raw_a(row, k));
  }
  return vec4<u32>();
#endif
}
fn gemm_fetch_w(row: u32, k: u32) -> vec4<u32> {
#if EVEN
  return gemm_packed_w(gemm_raw_w(row, min(k, params.k - 8u))); // only the fetch after the last step is past K
#else
  if (k < params.k) {
    return gemm_packed_w(gemm_raw_w(row, k));
  }
  return vec4<u32>();
#endif
}

fn gemm_matrix_result(subgroup: u32, row: u32, column4: u32) -> vec4<f32> {
  var sum = vec4<f32>();
  for (var part = 0u; part < {{SG_K}}u; part++) {
    sum += bitcast<vec4<f32>>(gemm_shared[(subgroup + part) * GEMM_RESULT + row * GEMM_RESULT_ROW + column4]);
  }
  return sum;
}

// Stores the matrices of one row (block_m, in 16s from the tile's first row) of the subgroup column at block_n.
fn gemm_matrix_store(
  tile: GemmTile, first_column: u32, block_m: u32, block_n: u32, subgroup: u32, sub_k: u32, lane: u32,
) {
#if SILU
  const quads = GEMM_FN * 2u; // groups of four output columns
#else
  const quads = GEMM_FN * 4u;
#endif
  for (var e = sub_k * 32u + lane; e < 16u * quads; e += 32u * {{SG_K}}u) {
    let local = e / quads;
    let quad = e % quads;
    let row = tile.first_row + block_m * 16u + local;
#if SILU
    let column = first_column + block_n * 8u + quad * 4u;
    let gate = gemm_matrix_result(subgroup, local, quad / 4u * 8u + quad % 4u);
    let up = gemm_matrix_result(subgroup, local, quad / 4u * 8u + 4u + quad % 4u);
    let value = gate / (1.0 + exp(-gate)) * up;
#else
    let column = first_column + block_n * 16u + quad * 4u;
    let value = gemm_matrix_result(subgroup, local, quad);
#endif
    if (row < tile.end_row && column < params.columns) {
#if PARTS == 1
      let out_row = gemm_output_row(row);
#else
      let out_row = row + tile.part * params.part_rows;
#endif
      gemm_store_finished(out_row, column, value.x, value.y);
      if (column + 2u < params.columns) {
        gemm_store_finished(out_row, column + 2u, value.z, value.w);
      }
    }
  }
}
#include "lib/main.wgsl"
