// out = 0.
struct Params {
  words: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> clear_out: array<u32>;

fn run(group: u32, groups: u32, lane: u32) {
  for (var i = group * {{WORKGROUP_SIZE}}u + lane; i < params.words; i += groups * {{WORKGROUP_SIZE}}u) {
    clear_out[i] = 0u;
  }
}

#include "lib/main.wgsl"
