// out[t] = sum over x of weights[t, x] * y[t * X + x], WIDTH elements an invocation.
#include "lib/storage.wgsl"
#include "lib/meta.wgsl"

struct Params {
  columns: u32, // H / WIDTH
  top_k: u32,
  token_capacity: u32,
  range: u32, // word of step_meta with the first token, then the end
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step_meta: array<u32>;
@group(0) @binding(2) var<storage, read> y: array<f32x{{WIDTH}}>;
@group(0) @binding(3) var<storage, read> weights: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32x{{WIDTH}}>;

fn run(group: u32, groups: u32, lane: u32) {
  let end = min(step_meta[params.range + 1u], params.token_capacity) * params.columns;
  let first = step_meta[params.range] * params.columns;
  let stride = groups * {{WORKGROUP_SIZE}}u;
  for (var at = first + group * {{WORKGROUP_SIZE}}u + lane; at < end; at += stride) {
    let token = at / params.columns;
    let column = at - token * params.columns;
    let slot = token * params.top_k;
    var sum = f32x{{WIDTH}}();
    for (var x = 0u; x < params.top_k; x++) {
      sum += weights[slot + x] * y[(slot + x) * params.columns + column];
    }
    out[at] = sum;
  }
}

#include "lib/main.wgsl"
