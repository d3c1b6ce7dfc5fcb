// Merge of partial attention results: a merged row (token, head) has one partial row for each KV chunk of its tile.
// out = sum_i 2^(lse_i - max) partial_i / sum_i 2^(lse_i - max); zeros when no chunk saw a KV token.
// Defines: OUT (f32 or f16), HEAD_DIM, WIDTH (4 or 2 elements a vector), BATCH. An invocation owns a vector of a merged row.
#include "lib/storage.wgsl"
#include "lib/meta.wgsl"

struct Params {
  count_at: u32, // words of the metadata: the number of merged rows, and parts of the attention plan
  indptr_at: u32,
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
  let total = min(step_meta[params.count_at], params.row_capacity) * MERGE_VECTORS;
  for (var i = group * {{WORKGROUP_SIZE}}u + lane; i < total; i += groups * {{WORKGROUP_SIZE}}u) {
    let row = i / MERGE_VECTORS;
    let vector = i - row * MERGE_VECTORS;
    let first = step_meta[params.indptr_at + row];
    let end = step_meta[params.indptr_at + row + 1u];
    // BATCH partial rows at a time: their loads are in flight together.
    var largest = MERGE_EMPTY;
    var sum = 0.0;
    var value = vec{{WIDTH}}<f32>();
    for (var partial = first; partial < end; partial += {{BATCH}}u) {
      let before = largest;
#for i BATCH
      // Beyond the end the last one is read again, with weight 0.
      let at_{{i}} = min(partial + {{i}}u, end - 1u);
      let lse_{{i}} = merge_lse[at_{{i}}];
      let row_{{i}} = merge_partial[at_{{i}} * MERGE_VECTORS + vector];
#endfor
#for i BATCH
      largest = max(largest, lse_{{i}});
#endfor
      let keep = exp2(before - largest);
      sum *= keep;
      value *= keep;
#for i BATCH
      let weight_{{i}} = select(
        0.0,
        exp2(lse_{{i}} - largest),
        partial + {{i}}u < end && lse_{{i}} > MERGE_EMPTY,
      );
      sum += weight_{{i}};
      value += weight_{{i}} * row_{{i}};
#endfor
    }
    if (sum > 0.0) {
      value = value / sum;
    }
    merge_out[step_meta[params.rows_at + row] * MERGE_VECTORS + vector] = store_{{OUT}}x{{WIDTH}}(value);
  }
}

#include "lib/main.wgsl"
