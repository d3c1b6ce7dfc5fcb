// out[row, f] = silu(gateUp[row, f]) * gateUp[row, F + f], elementwise over rows x F, WIDTH elements an invocation.
#include "lib/storage.wgsl"
#include "lib/meta.wgsl"

struct Params {
  columns: u32, // F / WIDTH
  row_capacity: u32,
  range: u32, // word of step_meta with the first token, then the end
  rows_per_token: u32,
  compact: u32, // 1: rows count from 0 within the range
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step_meta: array<u32>;
@group(0) @binding(2) var<storage, read> gate_up: array<{{IN}}x{{WIDTH}}>;
@group(0) @binding(3) var<storage, read_write> out: array<{{OUT}}x{{WIDTH}}>;

fn run(group: u32, groups: u32, lane: u32) {
  let first_token = step_meta[params.range];
  let before = first_token * params.compact;
  let first = (first_token - before) * params.rows_per_token * params.columns;
  let end = min((step_meta[params.range + 1u] - before) * params.rows_per_token, params.row_capacity) * params.columns;
  let stride = groups * {{WORKGROUP_SIZE}}u;
  for (var at = first + group * {{WORKGROUP_SIZE}}u + lane; at < end; at += stride) {
    // Row r's up half starts (2r + 1) * columns in, its gate half 2r * columns.
    let row = at / params.columns;
    let gate_at = at + row * params.columns;
    let gate = load_{{IN}}x{{WIDTH}}(gate_up[gate_at]);
    let up = load_{{IN}}x{{WIDTH}}(gate_up[gate_at + params.columns]);
    out[at] = store_{{OUT}}x{{WIDTH}}(gate / (1.0 + exp(-gate)) * up);
  }
}

#include "lib/main.wgsl"
