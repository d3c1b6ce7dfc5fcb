// out[t] = table[tokenIds[t] - row_start] for ids that lie in this piece of the table; WIDTH elements an invocation.
#include "lib/storage.wgsl"
#include "lib/meta.wgsl"

struct Params {
  columns: u32, // H / WIDTH
  row_capacity: u32, // rows of out
  range: u32, // word of step_meta with the first row, then the end
  token_ids: u32, // section of step_meta
  row_start: u32, // first token id of this piece
  row_count: u32, // rows of this piece
  sampled_rows: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step_meta: array<u32>;
@group(0) @binding(2) var<storage, read> table: array<{{TABLE}}x{{WIDTH}}>;
@group(0) @binding(3) var<storage, read> sampled: array<u32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32x{{WIDTH}}>;

// The token of a row: its id, or the one that the step before sampled into the named row.
fn embed_token(row: u32) -> u32 {
  let id = step_meta[params.token_ids + row];
  if ((id & FROM_SAMPLED) == 0u) {
    return id;
  }
  let source = min(id & ~FROM_SAMPLED, params.sampled_rows - 1u);
  return sampled[source * SAMPLED_WORDS + SAMPLED_TOKEN];
}

fn run(group: u32, groups: u32, lane: u32) {
  let end = min(step_meta[params.range + 1u], params.row_capacity) * params.columns;
  let first = step_meta[params.range] * params.columns;
  let stride = groups * {{WORKGROUP_SIZE}}u;
  for (var at = first + group * {{WORKGROUP_SIZE}}u + lane; at < end; at += stride) {
    let row = at / params.columns;
    // Ids below row_start wrap around to a large number.
    let table_row = embed_token(row) - params.row_start;
    if (table_row < params.row_count) {
      let column = at - row * params.columns;
      out[at] = load_{{TABLE}}x{{WIDTH}}(table[table_row * params.columns + column]);
    }
  }
}

#include "lib/main.wgsl"
