// Stable counting sort of the (token, choice) slots by expert. A workgroup takes an expert: each lane counts, in its run
// of slots, those of lower experts and those of this one; after a prefix sum each lane knows where its slots go. No two
// workgroups write the same word, so any number of them gives the same result.
#include "lib/meta.wgsl"

struct Params {
  experts: u32,
  top_k: u32,
  token_capacity: u32,
  range: u32, // word of step_meta with the first token, then the end
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step_meta: array<u32>;
@group(0) @binding(2) var<storage, read> choices: array<u32>;
@group(0) @binding(3) var<storage, read_write> slot_source: array<u32>;
@group(0) @binding(4) var<storage, read_write> expert_start: array<u32>;

#if LANES
var<workgroup> route_sort_lower: array<u32, {{WORKGROUP_SIZE}}>;
var<workgroup> route_sort_equal: array<u32, {{WORKGROUP_SIZE}}>;
#endif

fn run(group: u32, groups: u32, lane: u32) {
  // The slots of the range; sorted they count from 0.
  let end_slot = min(step_meta[params.range + 1u], params.token_capacity) * params.top_k;
  let first_slot = min(step_meta[params.range] * params.top_k, end_slot);
  let run_length = (end_slot - first_slot + {{WORKGROUP_SIZE}}u - 1u) / {{WORKGROUP_SIZE}}u;
  let first = min(end_slot, first_slot + lane * run_length);
  let end = min(end_slot, first + run_length);
  for (var expert = group; expert < params.experts; expert += groups) {
    var lower = 0u;
    var equal = 0u;
    for (var slot = first; slot < end; slot++) {
      let choice = choices[slot];
      lower += select(0u, 1u, choice < expert);
      equal += select(0u, 1u, choice == expert);
    }
    var start = lower; // first slot of the expert
    var to = lower; // first slot of this lane's
    var total = equal;
#if LANES
    route_sort_lower[lane] = lower;
    route_sort_equal[lane] = equal;
    workgroupBarrier();
    start = 0u;
    to = 0u;
    total = 0u;
    for (var other = 0u; other < {{WORKGROUP_SIZE}}u; other++) {
      start += route_sort_lower[other];
      to += select(0u, route_sort_equal[other], other < lane);
      total += route_sort_equal[other];
    }
    to += start;
    workgroupBarrier();
#endif
    for (var slot = first; slot < end; slot++) {
      if (choices[slot] == expert) {
        slot_source[to] = slot;
        to++;
      }
    }
    if (lane == 0u) {
      expert_start[expert] = start;
      if (expert == params.experts - 1u) {
        expert_start[params.experts] = start + total;
      }
    }
  }
}

#include "lib/main.wgsl"
