// Merge of partial attention results: a merged row (token, head) has one partial row for each KV chunk of its tile.
// out = sum_i 2^(lse_i - max) partial_i / sum_i 2^(lse_i - max); zeros when no chunk saw a KV token.
// Defines: OUT (f32 or f16), HEAD_DIM, WIDTH (4 or 2 elements a vector). An invocation owns a vector of a merged row.
#include "lib/storage.wgsl"
#include "lib/meta.wgsl"

struct Params {
  indptr_at: u32, // first words of sections of the metadata
  rows_at: u32,
  row_capacity: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step_meta: array<u32>;
@group(0) @binding(2) var<storage, read> merge_partial: array<f32x{{WIDTH}}>;
@group(0) @binding(3) var<storage, read> merge_lse: array<f32>;
@group(0) @binding(4) var<storage, read_write> merge_out: array<{{OUT}}x{{WIDTH}}>;

const MERGE_VECTORS = {{HEAD_DIM}}u / {{WIDTH}}u;
const MERGE_EMPTY = -1.0e30;

fn run(group: u32, groups: u32, lane: u32) {
  let total = min(step_meta[COUNT_MERGE_ROWS], params.row_capacity) * MERGE_VECTORS;
  for (var i = group * {{WORKGROUP_SIZE}}u + lane; i < total; i += groups * {{WORKGROUP_SIZE}}u) {
    let row = i / MERGE_VECTORS;
    let vector = i - row * MERGE_VECTORS;
    let first = step_meta[params.indptr_at + row];
    let end = step_meta[params.indptr_at + row + 1u];
    var largest = MERGE_EMPTY;
    for (var partial = first; partial < end; partial++) {
      largest = max(largest, merge_lse[partial]);
    }
    var sum = 0.0;
    var value = vec{{WIDTH}}<f32>();
    if (largest > MERGE_EMPTY) {
      for (var partial = first; partial < end; partial++) {
        let weight = exp2(merge_lse[partial] - largest);
        sum += weight;
        value += weight * merge_partial[partial * MERGE_VECTORS + vector];
      }
      value = value / sum;
    }
    merge_out[step_meta[params.rows_at + row] * MERGE_VECTORS + vector] = store_{{OUT}}x{{WIDTH}}(value);
  }
}

#include "lib/main.wgsl"
