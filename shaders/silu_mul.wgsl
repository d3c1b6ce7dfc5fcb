// out[row, f] = silu(gateUp[row, f]) * gateUp[row, F + f], elementwise over rows x F, WIDTH elements an invocation.
#include "lib/storage.wgsl"
#include "lib/meta.wgsl"

struct Params {
  columns: u32, // F / WIDTH
  row_capacity: u32,
  rows_per_token: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step_meta: array<u32>;
@group(0) @binding(2) var<storage, read> gate_up: array<{{IN}}x{{WIDTH}}>;
@group(0) @binding(3) var<storage, read_write> out: array<{{OUT}}x{{WIDTH}}>;

fn run(group: u32, groups: u32, lane: u32) {
  let rows = min(step_meta[COUNT_TOKENS] * params.rows_per_token, params.row_capacity);
  let total = rows * params.columns;
  let stride = groups * {{WORKGROUP_SIZE}}u;
  for (var at = group * {{WORKGROUP_SIZE}}u + lane; at < total; at += stride) {
    // Row r's up half starts (2r + 1) * columns in, its gate half 2r * columns.
    let row = at / params.columns;
    let gate_at = at + row * params.columns;
    let gate = load_{{IN}}x{{WIDTH}}(gate_up[gate_at]);
    let up = load_{{IN}}x{{WIDTH}}(gate_up[gate_at + params.columns]);
    out[at] = store_{{OUT}}x{{WIDTH}}(gate / (1.0 + exp(-gate)) * up);
  }
}

#include "lib/main.wgsl"
