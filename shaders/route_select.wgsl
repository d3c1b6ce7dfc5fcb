// For each token: softmax over its E router logits, the X most likely experts (ties: lower index first), their
// probabilities, divided by their sum when asked. A token is one invocation: E is small.
#include "lib/meta.wgsl"

struct Params {
  experts: u32,
  top_k: u32,
  normalize: u32,
  token_capacity: u32,
  range: u32, // word of step_meta with the first token, then the end
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step_meta: array<u32>;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> weights: array<f32>;
@group(0) @binding(4) var<storage, read_write> choices: array<u32>;

// Whether expert a comes before expert b, whose logits are given.
fn route_select_before(logit_a: f32, a: u32, logit_b: f32, b: u32) -> bool {
  return logit_a > logit_b || (logit_a == logit_b && a < b);
}

fn run(group: u32, groups: u32, lane: u32) {
  let end = min(step_meta[params.range + 1u], params.token_capacity);
  let first = step_meta[params.range];
  let stride = groups * {{WORKGROUP_SIZE}}u;
  for (var token = first + group * {{WORKGROUP_SIZE}}u + lane; token < end; token += stride) {
    let row = token * params.experts;
    var largest = logits[row];
    for (var e = 1u; e < params.experts; e++) {
      largest = max(largest, logits[row + e]);
    }
    var sum = 0.0;
    for (var e = 0u; e < params.experts; e++) {
      sum += exp(logits[row + e] - largest);
    }
    // Each round takes the first expert, in order, that comes after the one taken last.
    var last = 0u;
    var last_logit = 0.0;
    var chosen_sum = 0.0;
    for (var x = 0u; x < params.top_k; x++) {
      var best = params.experts;
      var best_logit = 0.0;
      for (var e = 0u; e < params.experts; e++) {
        let logit = logits[row + e];
        let open = x == 0u || route_select_before(last_logit, last, logit, e);
        if (open && (best == params.experts || route_select_before(logit, e, best_logit, best))) {
          best = e;
          best_logit = logit;
        }
      }
      let weight = exp(best_logit - largest) / sum;
      chosen_sum += weight;
      choices[token * params.top_k + x] = best;
      weights[token * params.top_k + x] = weight;
      last = best;
      last_logit = best_logit;
    }
    if (params.normalize == 1u) {
      for (var x = 0u; x < params.top_k; x++) {
        weights[token * params.top_k + x] /= chosen_sum;
      }
    }
  }
}

#include "lib/main.wgsl"
