// What the GEMM kernels share: bindings, parameters, loads along K, the epilogue and stores.
//
// out[m, out_column + n] = sum_k a[m, k] * w[n, k] (+ bias[n]), m < rows. Defines:
//   A_F16, W_F16, OUT_F16   storage types (otherwise f32); f16 is unpacked by hand, so no shader-f16 is needed
//   ALIGNED                 K is a multiple of 4, so that four elements are one aligned load
//   WIDE                    K is a multiple of 8, and the kernel loads eight elements at a time
//   BIAS, SILU              epilogue; with SILU w holds gate rows, then up rows, and n counts pairs of them
//   OUT_ODD                 f16 rows or columns start at odd elements: neighbours share a word, so it is swapped in
//   GROUPED                 the rows of each expert (sorted slots) have their own weights (moe_gemm)
//   PARTS                   K is cut into so many ranges, each with a product of its own (gemm_matrix only)
//   GATHER_TOKEN            grouped: slot s reads row slot_source[s] / top_k and writes row s; otherwise it reads
//                           row s and writes row slot_source[s]
struct Params {
  range: u32, // word of the metadata that holds the first row, and after it the end of the rows
  k: u32,
  columns: u32, // output columns: N, or N / 2 with SILU
  out_stride: u32, // elements from one output row to the next
  out_column: u32,
  experts: u32,
  expert_first: u32,
  top_k: u32,
  part_k: u32, // k of one part, and rows from one part of the output to the next
  part_rows: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
#if GROUPED
@group(0) @binding(1) var<storage, read> gemm_expert_start: array<u32>;
#else
@group(0) @binding(1) var<storage, read> step_meta: array<u32>;
#endif
#if WIDE
#if A_F16
@group(0) @binding(2) var<storage, read> gemm_a: array<vec4<u32>>;
#else
@group(0) @binding(2) var<storage, read> gemm_a: array<vec4<f32>>;
#endif
#if W_F16
@group(0) @binding(3) var<storage, read> gemm_w: array<vec4<u32>>;
#else
@group(0) @binding(3) var<storage, read> gemm_w: array<vec4<f32>>;
#endif
#elif ALIGNED
#if A_F16
@group(0) @binding(2) var<storage, read> gemm_a: array<vec2<u32>>;
#else
@group(0) @binding(2) var<storage, read> gemm_a: array<vec4<f32>>;
#endif
#if W_F16
@group(0) @binding(3) var<storage, read> gemm_w: array<vec2<u32>>;
#else
@group(0) @binding(3) var<storage, read> gemm_w: array<vec4<f32>>;
#endif
#else
#if A_F16
@group(0) @binding(2) var<storage, read> gemm_a: array<u32>;
#else
@group(0) @binding(2) var<storage, read> gemm_a: array<f32>;
#endif
#if W_F16
@group(0) @binding(3) var<storage, read> gemm_w: array<u32>;
#else
@group(0) @binding(3) var<storage, read> gemm_w: array<f32>;
#endif
#endif
#if OUT_F16
#if OUT_ODD
@group(0) @binding(4) var<storage, read_write> gemm_out: array<atomic<u32>>;
#else
@group(0) @binding(4) var<storage, read_write> gemm_out: array<u32>;
#endif
#else
@group(0) @binding(4) var<storage, read_write> gemm_out: array<f32>;
#endif
#if BIAS
@group(0) @binding(5) var<storage, read> gemm_bias: array<f32>;
#endif
#if GROUPED
@group(0) @binding(5) var<storage, read> gemm_slot_source: array<u32>;
#endif

#if WIDE
// Eight elements as they are stored. k is a multiple of 8.
struct GemmEight {
  low: vec4<f32>,
  high: vec4<f32>,
}
fn gemm_low_half(v: vec4<u32>) -> vec4<f32> {
  return vec4(unpack2x16float(v.x), unpack2x16float(v.y));
}
fn gemm_high_half(v: vec4<u32>) -> vec4<f32> {
  return vec4(unpack2x16float(v.z), unpack2x16float(v.w));
}
#if A_F16
alias GemmRawA = vec4<u32>;
fn gemm_raw_a(row: u32, k: u32) -> GemmRawA {
  return gemm_a[(row * params.k + k) >> 3u];
}
fn gemm_low_a(raw: GemmRawA) -> vec4<f32> {
  return gemm_low_half(raw);
}
fn gemm_high_a(raw: GemmRawA) -> vec4<f32> {
  return gemm_high_half(raw);
}
fn gemm_packed_a(raw: GemmRawA) -> vec4<u32> {
  return raw;
}
#else
alias GemmRawA = GemmEight;
fn gemm_raw_a(row: u32, k: u32) -> GemmRawA {
  let at = (row * params.k + k) >> 2u;
  return GemmEight(gemm_a[at], gemm_a[at + 1u]);
}
fn gemm_low_a(raw: GemmRawA) -> vec4<f32> {
  return raw.low;
}
fn gemm_high_a(raw: GemmRawA) -> vec4<f32> {
  return raw.high;
}
fn gemm_packed_a(raw: GemmRawA) -> vec4<u32> {
  return gemm_pack(raw);
}
#endif
#if W_F16
alias GemmRawW = vec4<u32>;
fn gemm_raw_w(row: u32, k: u32) -> GemmRawW {
  return gemm_w[(row * params.k + k) >> 3u];
}
fn gemm_low_w(raw: GemmRawW) -> vec4<f32> {
  return gemm_low_half(raw);
}
fn gemm_high_w(raw: GemmRawW) -> vec4<f32> {
  return gemm_high_half(raw);
}
fn gemm_packed_w(raw: GemmRawW) -> vec4<u32> {
  return raw;
}
#else
alias GemmRawW = GemmEight;
fn gemm_raw_w(row: u32, k: u32) -> GemmRawW {
  let at = (row * params.k + k) >> 2u;
  return GemmEight(gemm_w[at], gemm_w[at + 1u]);
}
fn gemm_low_w(raw: GemmRawW) -> vec4<f32> {
  return raw.low;
}
fn gemm_high_w(raw: GemmRawW) -> vec4<f32> {
  return raw.high;
}
fn gemm_packed_w(raw: GemmRawW) -> vec4<u32> {
  return gemm_pack(raw);
}
#endif
fn gemm_pack(v: GemmEight) -> vec4<u32> {
  return vec4(pack2x16float(v.low.xy), pack2x16float(v.low.zw), pack2x16float(v.high.xy), pack2x16float(v.high.zw));
}
#elif ALIGNED
// a[row, k .. k + 4] and w[row, k .. k + 4], k a multiple of 4.
fn gemm_load_a(row: u32, k: u32) -> vec4<f32> {
  let v = gemm_a[(row * params.k + k) >> 2u];
#if A_F16
  return vec4(unpack2x16float(v.x), unpack2x16float(v.y));
#else
  return v;
#endif
}
fn gemm_load_w(row: u32, k: u32) -> vec4<f32> {
  let v = gemm_w[(row * params.k + k) >> 2u];
#if W_F16
  return vec4(unpack2x16float(v.x), unpack2x16float(v.y));
#else
  return v;
#endif
}
#else
// The same for any K: zeros from K on.
fn gemm_element_a(index: u32) -> f32 {
#if A_F16
  return unpack2x16float(gemm_a[index >> 1u] >> ((index & 1u) * 16u)).x;
#else
  return gemm_a[index];
#endif
}
fn gemm_element_w(index: u32) -> f32 {
#if W_F16
  return unpack2x16float(gemm_w[index >> 1u] >> ((index & 1u) * 16u)).x;
#else
  return gemm_w[index];
#endif
}
fn gemm_load_a(row: u32, k: u32) -> vec4<f32> {
  let at = row * params.k + k;
  var v = vec4<f32>();
  for (var j = 0u; j < min(4u, params.k - k); j++) {
    v[j] = gemm_element_a(at + j);
  }
  return v;
}
fn gemm_load_w(row: u32, k: u32) -> vec4<f32> {
  let at = row * params.k + k;
  var v = vec4<f32>();
  for (var j = 0u; j < min(4u, params.k - k); j++) {
    v[j] = gemm_element_w(at + j);
  }
  return v;
}
#endif

fn gemm_silu_mul(gate: f32, up: f32) -> f32 {
  return gate / (1.0 + exp(-gate)) * up;
}

#if OUT_ODD
fn gemm_swap_half(index: u32, value: f32) {
  let shift = (index & 1u) * 16u;
  let half = (pack2x16float(vec2(value, 0.0)) & 0xffffu) << shift;
  let keep = 0xffff0000u >> shift;
  var seen = atomicLoad(&gemm_out[index >> 1u]);
  loop {
    let swapped = atomicCompareExchangeWeak(&gemm_out[index >> 1u], seen, (seen & keep) | half);
    if (swapped.exchanged) {
      break;
    }
    seen = swapped.old_value;
  }
}
#endif

// Stores columns `column` (even, < columns) and, where it exists, column + 1 of an output row.
fn gemm_store_pair(row: u32, column: u32, first: f32, second: f32) {
  let index = row * params.out_stride + params.out_column + column;
  let both = column + 1u < params.columns;
#if OUT_F16
#if OUT_ODD
  gemm_swap_half(index, first);
  if (both) {
    gemm_swap_half(index + 1u, second);
  }
#else
  let packed = pack2x16float(vec2(first, second));
  if (both) {
    gemm_out[index >> 1u] = packed;
  } else {
    gemm_out[index >> 1u] = (gemm_out[index >> 1u] & 0xffff0000u) | (packed & 0xffffu);
  }
#endif
#else
  gemm_out[index] = first;
  if (both) {
    gemm_out[index + 1u] = second;
  }
#endif
}

// The same after the bias, if there is one.
fn gemm_store_finished(row: u32, column: u32, first: f32, second: f32) {
#if BIAS
  gemm_store_pair(row, column, first + gemm_bias[column], second + gemm_bias[min(column + 1u, params.columns - 1u)]);
#else
  gemm_store_pair(row, column, first, second);
#endif
}

// One tile of the output: rows [first_row, end_row) at most tile_rows of them, and its place among the column tiles.
struct GemmTile {
  found: bool,
  first_row: u32,
  end_row: u32, // first row after the tile's
  column_tile: u32,
  weights: u32, // first weight row: 0, or that of the expert
  part: u32, // which range of K
}

// Tile `index` when rows are cut by tile_rows and columns into column_tiles. Row tiles vary fastest, in bands of
// `band` row tiles: tiles that run at the same time then share rows of a and w in the cache.
fn gemm_find_tile(index: u32, tile_rows: u32, column_tiles: u32, band: u32) -> GemmTile {
#if GROUPED
  var left = index;
#if SILU
  let weight_rows = 2u * params.columns;
#else
  let weight_rows = params.columns;
#endif
  for (var expert = 0u; expert < params.experts; expert++) {
    let start = gemm_expert_start[params.expert_first + expert];
    let end = gemm_expert_start[params.expert_first + expert + 1u];
    let row_tiles = (end - start + tile_rows - 1u) / tile_rows;
    let tiles = row_tiles * column_tiles;
    if (left < tiles) {
      let first = start + left % row_tiles * tile_rows;
      return GemmTile(true, first, min(end, first + tile_rows), left / row_tiles, expert * weight_rows, 0u);
    }
    left -= tiles;
  }
  return GemmTile(false, 0u, 0u, 0u, 0u, 0u);
#else
  let first_row = step_meta[params.range];
  let end_row = max(first_row, step_meta[params.range + 1u]);
  let row_tiles = (end_row - first_row + tile_rows - 1u) / tile_rows;
  let tiles = row_tiles * column_tiles;
  if (index >= tiles * {{PARTS}}u) {
    return GemmTile(false, 0u, 0u, 0u, 0u, 0u);
  }
  let part = index / tiles;
  let in_part = index - part * tiles;
  let in_band = in_part % (band * column_tiles);
  let first_tile = in_part / (band * column_tiles) * band;
  let band_tiles = min(band, row_tiles - first_tile);
  let first = first_row + (first_tile + in_band % band_tiles) * tile_rows;
  return GemmTile(true, first, min(end_row, first + tile_rows), in_band / band_tiles, 0u, part);
#endif
}

// The row of `a` that output row or slot `row` is made from, and the row of `out` that it goes to.
fn gemm_input_row(row: u32) -> u32 {
#if GROUPED
#if GATHER_TOKEN
  return gemm_slot_source[row] / params.top_k;
#else
  return row;
#endif
#else
  return row;
#endif
}
fn gemm_output_row(row: u32) -> u32 {
#if GROUPED
#if GATHER_TOKEN
  return row;
#else
  return gemm_slot_source[row];
#endif
#else
  return row;
#endif
}
