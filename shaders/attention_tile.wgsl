// Paged attention for many query rows (prefill) on GPUs: KV tokens are staged TOKENS at a time in workgroup memory as
// f32. LANES invocations share a packed row, each with every LANES-th vector of its query and accumulator in registers;
// an invocation carries ROWS packed rows, so a staged vector is read once for ROWS dot products.
//
// SUBGROUPS: the LANES invocations of a row add their parts of a score by shuffles (LANES is not larger than any
// subgroup); otherwise through workgroup memory.
#if SUBGROUPS
enable subgroups;
#endif
#include "attention_io.wgsl"

const ATTENTION_LANE_ROWS = {{WORKGROUP_SIZE}}u / {{LANES}}u; // rows that the workgroup holds, for each of ROWS
const ATTENTION_PASS = ATTENTION_LANE_ROWS * {{ROWS}}u;

var<workgroup> attention_keys: array<AttentionVector, {{TOKENS}}u * ATTENTION_VECTORS>;
var<workgroup> attention_values: array<AttentionVector, {{TOKENS}}u * ATTENTION_VECTORS>;
#if !SUBGROUPS
var<workgroup> attention_shares: array<f32, {{WORKGROUP_SIZE}}u * {{ROWS}}u * {{TOKENS}}u>;
#endif

fn run(group: u32, groups: u32, lane: u32) {
  for (var list = group; list < params.lists; list += groups) {
    let end = step_meta[params.indptr_at + list + 1u];
    for (var index = step_meta[params.indptr_at + list]; index < end; index++) {
      let item = attention_item(index);
      for (var first = 0u; first < item.rows; first += ATTENTION_PASS) {
        attention_pass(item, first, lane);
      }
    }
  }
}

// Copies KV tokens [base, base + TOKENS) to workgroup memory, zeros beyond `end`.
fn attention_stage(item: AttentionItem, base: u32, end: u32, lane: u32) {
  for (var i = lane; i < {{TOKENS}}u * ATTENTION_VECTORS; i += {{WORKGROUP_SIZE}}u) {
    let token = base + i / ATTENTION_VECTORS;
    var key = AttentionVector();
    var value = AttentionVector();
    if (token < end) {
      let at = attention_kv_row(item, token) * ATTENTION_VECTORS + i % ATTENTION_VECTORS;
      key = load_{{KV}}x{{KV_WIDTH}}(attention_k[at]);
      value = load_{{KV}}x{{KV_WIDTH}}(attention_v[at]);
    }
    attention_keys[i] = key;
    attention_values[i] = value;
  }
}

// Packed rows [first, first + PASS) of the tile: row first + r * LANE_ROWS + lane / LANES for r < ROWS.
fn attention_pass(item: AttentionItem, first: u32, lane: u32) {
  let part = lane % {{LANES}}u;
  let own_row = first + lane / {{LANES}}u;

#for r ROWS
  let row_{{r}} = own_row + {{r}}u * ATTENTION_LANE_ROWS;
  let safe_row_{{r}} = min(row_{{r}}, item.rows - 1u);
  let query_row_{{r}} = attention_query_row(item, safe_row_{{r}});
  let view_{{r}} = attention_view(item, safe_row_{{r}});
  var maximum_{{r}} = ATTENTION_LOWEST;
  var sum_{{r}} = 0.0;
#for v OWN
  let q_{{r}}_{{v}} = attention_own_q(query_row_{{r}}, part + {{v}}u * {{LANES}}u);
  var acc_{{r}}_{{v}} = AttentionVector();
#endfor
#endfor
  // Where the own vectors of a staged token lie; lanes beyond the row's end have a query of zeros.
#for v OWN
  let own_{{v}} = min(part + {{v}}u * {{LANES}}u, ATTENTION_VECTORS - 1u);
#endfor

  // What any row of this pass sees, and what all of them do.
  let first_view = attention_view(item, first);
  let last_view = attention_view(item, min(first + ATTENTION_PASS, item.rows) - 1u);
  let kv_start = max(item.kv_start, first_view.x);
  let kv_end = min(item.kv_end, last_view.y);
  let all_start = last_view.x;
  let all_end = min(item.kv_end, first_view.y);
  for (var base = kv_start; base < kv_end; base += {{TOKENS}}u) {
    workgroupBarrier(); // the tokens before have been read
    attention_stage(item, base, kv_end, lane);
    workgroupBarrier();

#for t TOKENS
#for r ROWS
    var score_{{r}}_{{t}} = 0.0;
#endfor
#for v OWN
    let key_{{t}}_{{v}} = attention_keys[{{t}}u * ATTENTION_VECTORS + own_{{v}}];
#for r ROWS
    score_{{r}}_{{t}} += dot(q_{{r}}_{{v}}, key_{{t}}_{{v}});
#endfor
#endfor
#endfor
#if SUBGROUPS
#for s STEPS
#for t TOKENS
#for r ROWS
    score_{{r}}_{{t}} += subgroupShuffleXor(score_{{r}}_{{t}}, 1u << {{s}}u);
#endfor
#endfor
#endfor
#else
#for t TOKENS
#for r ROWS
    attention_shares[({{r}}u * {{TOKENS}}u + {{t}}u) * {{WORKGROUP_SIZE}}u + lane] = score_{{r}}_{{t}};
    score_{{r}}_{{t}} = 0.0;
#endfor
#endfor
    workgroupBarrier();
    for (var other = lane - part; other < lane - part + {{LANES}}u; other++) {
#for t TOKENS
#for r ROWS
      score_{{r}}_{{t}} += attention_shares[({{r}}u * {{TOKENS}}u + {{t}}u) * {{WORKGROUP_SIZE}}u + other];
#endfor
#endfor
    }
#endif
    if (base < all_start || base + {{TOKENS}}u > all_end) {
#for t TOKENS
#for r ROWS
      score_{{r}}_{{t}} = select(
        ATTENTION_EMPTY,
        score_{{r}}_{{t}},
        base + {{t}}u >= view_{{r}}.x && base + {{t}}u < min(view_{{r}}.y, item.kv_end),
      );
#endfor
#endfor
    }
    // Weights of what is not visible are 0: maxima start above ATTENTION_EMPTY.
#for r ROWS
    let before_{{r}} = maximum_{{r}};
#for t TOKENS
    maximum_{{r}} = max(maximum_{{r}}, score_{{r}}_{{t}});
#endfor
    let keep_{{r}} = exp2(before_{{r}} - maximum_{{r}});
    sum_{{r}} *= keep_{{r}};
#for t TOKENS
    let weight_{{r}}_{{t}} = exp2(score_{{r}}_{{t}} - maximum_{{r}});
    sum_{{r}} += weight_{{r}}_{{t}};
#endfor
#for v OWN
    acc_{{r}}_{{v}} *= keep_{{r}};
#endfor
#endfor
#for t TOKENS
#for v OWN
    let value_{{t}}_{{v}} = attention_values[{{t}}u * ATTENTION_VECTORS + own_{{v}}];
#for r ROWS
    acc_{{r}}_{{v}} += weight_{{r}}_{{t}} * value_{{t}}_{{v}};
#endfor
#endfor
#endfor
  }

#for r ROWS
  if (row_{{r}} < item.rows) {
    let inverse_{{r}} = attention_inverse(sum_{{r}});
#for v OWN
    if (part + {{v}}u * {{LANES}}u < ATTENTION_VECTORS) {
      attention_store(item, row_{{r}}, part + {{v}}u * {{LANES}}u, acc_{{r}}_{{v}} * inverse_{{r}});
    }
#endfor
    if (part == 0u) {
      attention_store_lse(item, row_{{r}}, maximum_{{r}}, sum_{{r}});
    }
  }
#endfor
}

#include "lib/main.wgsl"
