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
const ATTENTION_OWN = (ATTENTION_VECTORS + {{LANES}}u - 1u) / {{LANES}}u;

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

  var q: array<array<AttentionVector, ATTENTION_OWN>, {{ROWS}}>;
  var acc: array<array<AttentionVector, ATTENTION_OWN>, {{ROWS}}>;
  var maximum: array<f32, {{ROWS}}>;
  var sum: array<f32, {{ROWS}}>;
  var view: array<vec2<u32>, {{ROWS}}>;
  for (var r = 0u; r < {{ROWS}}u; r++) {
    let row = min(own_row + r * ATTENTION_LANE_ROWS, item.rows - 1u);
    let query_row = attention_query_row(item, row);
    for (var v = 0u; v < ATTENTION_OWN; v++) {
      q[r][v] = AttentionVector();
      if (part + v * {{LANES}}u < ATTENTION_VECTORS) {
        q[r][v] = attention_load_q(query_row, part + v * {{LANES}}u);
      }
      acc[r][v] = AttentionVector();
    }
    maximum[r] = ATTENTION_LOWEST;
    sum[r] = 0.0;
    view[r] = attention_view(item, row);
    view[r].y = min(view[r].y, item.kv_end);
  }

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

    var scores: array<array<f32, {{TOKENS}}>, {{ROWS}}>;
    for (var t = 0u; t < {{TOKENS}}u; t++) {
      for (var r = 0u; r < {{ROWS}}u; r++) {
        scores[r][t] = 0.0;
      }
      for (var v = 0u; v < ATTENTION_OWN; v++) {
        // Lanes beyond the row's end have a query of zeros.
        let key = attention_keys[t * ATTENTION_VECTORS + min(part + v * {{LANES}}u, ATTENTION_VECTORS - 1u)];
        for (var r = 0u; r < {{ROWS}}u; r++) {
          scores[r][t] += dot(q[r][v], key);
        }
      }
    }
#if SUBGROUPS
    for (var distance = {{LANES}}u / 2u; distance > 0u; distance /= 2u) {
      for (var r = 0u; r < {{ROWS}}u; r++) {
        for (var t = 0u; t < {{TOKENS}}u; t++) {
          scores[r][t] += subgroupShuffleXor(scores[r][t], distance);
        }
      }
    }
#else
    for (var r = 0u; r < {{ROWS}}u; r++) {
      for (var t = 0u; t < {{TOKENS}}u; t++) {
        attention_shares[(r * {{TOKENS}}u + t) * {{WORKGROUP_SIZE}}u + lane] = scores[r][t];
      }
    }
    workgroupBarrier();
    for (var r = 0u; r < {{ROWS}}u; r++) {
      for (var t = 0u; t < {{TOKENS}}u; t++) {
        scores[r][t] = 0.0;
        for (var other = 0u; other < {{LANES}}u; other++) {
          scores[r][t] += attention_shares[(r * {{TOKENS}}u + t) * {{WORKGROUP_SIZE}}u + lane - part + other];
        }
      }
    }
#endif
    if (base < all_start || base + {{TOKENS}}u > all_end) {
      for (var r = 0u; r < {{ROWS}}u; r++) {
        for (var t = 0u; t < {{TOKENS}}u; t++) {
          let visible = base + t >= view[r].x && base + t < view[r].y;
          scores[r][t] = select(ATTENTION_EMPTY, scores[r][t], visible);
        }
      }
    }
    for (var r = 0u; r < {{ROWS}}u; r++) {
      var larger = maximum[r];
      for (var t = 0u; t < {{TOKENS}}u; t++) {
        larger = max(larger, scores[r][t]);
      }
      let keep = exp2(maximum[r] - larger);
      maximum[r] = larger;
      sum[r] *= keep;
      for (var v = 0u; v < ATTENTION_OWN; v++) {
        acc[r][v] *= keep;
      }
      for (var t = 0u; t < {{TOKENS}}u; t++) {
        scores[r][t] = exp2(scores[r][t] - larger);
        sum[r] += scores[r][t];
      }
    }
    for (var t = 0u; t < {{TOKENS}}u; t++) {
      for (var v = 0u; v < ATTENTION_OWN; v++) {
        let value = attention_values[t * ATTENTION_VECTORS + min(part + v * {{LANES}}u, ATTENTION_VECTORS - 1u)];
        for (var r = 0u; r < {{ROWS}}u; r++) {
          acc[r][v] += scores[r][t] * value;
        }
      }
    }
  }

  for (var r = 0u; r < {{ROWS}}u; r++) {
    let row = own_row + r * ATTENTION_LANE_ROWS;
    if (row < item.rows) {
      let inverse = attention_inverse(sum[r]);
      for (var v = 0u; v < ATTENTION_OWN; v++) {
        if (part + v * {{LANES}}u < ATTENTION_VECTORS) {
          attention_store(item, row, part + v * {{LANES}}u, acc[r][v] * inverse);
        }
      }
      if (part == 0u) {
        attention_store_lse(item, row, maximum[r], sum[r]);
      }
    }
  }
}

#include "lib/main.wgsl"
