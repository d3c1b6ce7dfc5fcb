// Paged attention for software adapters: no barrier, no workgroup memory. An invocation owns a packed row from query
// to result; all invocations of the workgroup look at the same KV token, so a software adapter loads it once and
// spreads it over its vector lanes. Four scores at a time share one rescaling of the accumulator.
#include "attention_io.wgsl"

fn run(group: u32, groups: u32, lane: u32) {
  for (var list = group; list < params.lists; list += groups) {
    let end = step_meta[params.indptr_at + list + 1u];
    for (var index = step_meta[params.indptr_at + list]; index < end; index++) {
      let item = attention_item(index);
      for (var first = 0u; first < item.rows; first += {{WORKGROUP_SIZE}}u) {
        attention_rows(item, first, lane);
      }
    }
  }
}

fn attention_load_kv(stored: {{KV}}x{{WIDTH}}) -> AttentionVector {
  return load_{{KV}}x{{WIDTH}}(stored);
}

// Packed rows first + lane of the tile.
fn attention_rows(item: AttentionItem, first: u32, lane: u32) {
  let row = min(first + lane, item.rows - 1u); // idle invocations repeat the last row and store nothing
  let query_row = attention_query_row(item, row);
  let view = attention_view(item, row);
  // Loop bounds are those of the first and the last row, so that they are the same for all invocations.
  let last = min(first + {{WORKGROUP_SIZE}}u, item.rows) - 1u;
  let kv_start = max(item.kv_start, attention_view(item, first).x);
  let kv_end = min(item.kv_end, attention_view(item, last).y);

  var q: array<AttentionVector, ATTENTION_VECTORS>;
  var acc: array<AttentionVector, ATTENTION_VECTORS>;
  for (var v = 0u; v < ATTENTION_VECTORS; v++) {
    q[v] = attention_load_q(query_row, v);
    acc[v] = AttentionVector();
  }
  var maximum = ATTENTION_EMPTY;
  var sum = 0.0;
  for (var token = kv_start; token < kv_end; token += 4u) {
    // Beyond the end the last token is read again, with weight 0.
    let tokens = vec4<u32>(token, token + 1u, token + 2u, token + 3u);
    let at = vec4<u32>(
      attention_kv_row(item, tokens.x),
      attention_kv_row(item, min(tokens.y, kv_end - 1u)),
      attention_kv_row(item, min(tokens.z, kv_end - 1u)),
      attention_kv_row(item, min(tokens.w, kv_end - 1u)),
    ) * ATTENTION_VECTORS;
    var scores = vec4<f32>();
    for (var v = 0u; v < ATTENTION_VECTORS; v++) {
      scores += vec4<f32>(
        dot(q[v], attention_load_kv(attention_k[at.x + v])),
        dot(q[v], attention_load_kv(attention_k[at.y + v])),
        dot(q[v], attention_load_kv(attention_k[at.z + v])),
        dot(q[v], attention_load_kv(attention_k[at.w + v])),
      );
    }
    let visible = (tokens >= vec4<u32>(view.x)) & (tokens < vec4<u32>(min(view.y, kv_end)));
    scores = select(vec4<f32>(ATTENTION_EMPTY), scores, visible);
    let larger = max(maximum, max(max(scores.x, scores.y), max(scores.z, scores.w)));
    let keep = exp2(maximum - larger);
    let weights = select(vec4<f32>(), exp2(scores - larger), visible);
    maximum = larger;
    sum = sum * keep + dot(weights, vec4<f32>(1.0));
    for (var v = 0u; v < ATTENTION_VECTORS; v++) {
      acc[v] = acc[v] * keep +
        weights.x * attention_load_kv(attention_v[at.x + v]) +
        weights.y * attention_load_kv(attention_v[at.y + v]) +
        weights.z * attention_load_kv(attention_v[at.z + v]) +
        weights.w * attention_load_kv(attention_v[at.w + v]);
    }
  }
  if (first + lane < item.rows) {
    let inverse = attention_inverse(sum);
    for (var v = 0u; v < ATTENTION_VECTORS; v++) {
      attention_store(item, row, v, acc[v] * inverse);
    }
    attention_store_lse(item, row, maximum, sum);
  }
}

#include "lib/main.wgsl"
