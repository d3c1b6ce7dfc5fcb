// From one row of q, k and v heads for each token: per-head RMSNorm of q and k (NORM), rotary embedding of the pairs
// (i, i + D/2), q to its own buffer, k and v to their slots in the KV pages.
//
// An invocation owns WIDTH elements of a head's first half and the WIDTH elements D/2 after them; when D/2 is odd (ODD)
// it owns two neighbouring elements instead, because f16 is stored in words of two. With NORM each invocation sums the
// squares of its whole head by itself: the loads come from the cache, and no barrier is needed.
#include "lib/storage.wgsl"
#include "lib/meta.wgsl"

struct Params {
  row_capacity: u32, // rows of qkv
  range: u32, // word of step_meta with the first row, then the end
  positions: u32, // section of step_meta
  kv_slots: u32, // section of step_meta
  heads: u32,
  kv_heads: u32,
  half_width: u32, // D/2 / WIDTH; ODD: words of a head, D/2
  page_size: u32,
  slots: u32, // pages * page size
  table_rows: u32,
  epsilon: f32,
  inverse_head_dim: f32, // 1 / D
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step_meta: array<u32>;
@group(0) @binding(2) var<storage, read> qkv: array<{{IN}}x{{WIDTH}}>;
@group(0) @binding(3) var<storage, read> table: array<vec2<f32>>; // cos, sin
@group(0) @binding(4) var<storage, read_write> q: array<{{Q}}x{{WIDTH}}>;
@group(0) @binding(5) var<storage, read_write> k_cache: array<{{KV}}x{{WIDTH}}>;
@group(0) @binding(6) var<storage, read_write> v_cache: array<{{KV}}x{{WIDTH}}>;
#if NORM
// Weights of q's heads, then of k's.
@group(0) @binding(7) var<storage, read> q_norm: array<f32>;
@group(0) @binding(8) var<storage, read> k_norm: array<f32>;
#endif

alias RopeVector = f32x{{WIDTH}};

// The row's cos and sin for WIDTH neighbouring pairs.
struct RopeAngles {
  cosine: RopeVector,
  sine: RopeVector,
}

#if !ODD
fn rope_angles(first: u32) -> RopeAngles {
#if WIDTH == 4
  let a = table[first];
  let b = table[first + 1u];
  let c = table[first + 2u];
  let d = table[first + 3u];
  return RopeAngles(vec4<f32>(a.x, b.x, c.x, d.x), vec4<f32>(a.y, b.y, c.y, d.y));
#elif WIDTH == 2
  let a = table[first];
  let b = table[first + 1u];
  return RopeAngles(vec2<f32>(a.x, b.x), vec2<f32>(a.y, b.y));
#else
  let a = table[first];
  return RopeAngles(a.x, a.y);
#endif
}
#endif

#if NORM
fn rope_square(value: RopeVector) -> f32 {
#if WIDTH == 1
  return value * value;
#else
  return dot(value, value);
#endif
}

fn rope_head_scale(head_at: u32, length: u32) -> f32 {
  var sum = 0.0;
  for (var i = 0u; i < length; i++) {
    sum += rope_square(load_{{IN}}x{{WIDTH}}(qkv[head_at + i]));
  }
  return inverseSqrt(sum * params.inverse_head_dim + params.epsilon);
}

fn rope_weight_element(is_q: bool, index: u32) -> f32 {
  if (is_q) {
    return q_norm[index];
  }
  return k_norm[index];
}

#if !ODD
fn rope_weight(is_q: bool, first: u32) -> RopeVector {
#if WIDTH == 4
  return vec4<f32>(
    rope_weight_element(is_q, first),
    rope_weight_element(is_q, first + 1u),
    rope_weight_element(is_q, first + 2u),
    rope_weight_element(is_q, first + 3u),
  );
#elif WIDTH == 2
  return vec2<f32>(rope_weight_element(is_q, first), rope_weight_element(is_q, first + 1u));
#else
  return rope_weight_element(is_q, first);
#endif
}
#endif
#endif

#if ODD
fn rope_element(head_at: u32, index: u32) -> f32 {
  return load_{{IN}}x2(qkv[head_at + index / 2u])[index & 1u];
}

// Element `index` of a head after norm and rotation.
fn rope_rotated(head_at: u32, index: u32, table_at: u32, is_q: bool, scale: f32) -> f32 {
  let half = params.half_width;
  let in_first = index < half;
  let partner = select(index - half, index + half, in_first);
  var value = rope_element(head_at, index);
  var other = rope_element(head_at, partner);
#if NORM
  value *= scale * rope_weight_element(is_q, index);
  other *= scale * rope_weight_element(is_q, partner);
#endif
  let angle = table[table_at + select(partner, index, in_first)];
  return value * angle.x + select(other, -other, in_first) * angle.y;
}
#endif

fn run(group: u32, groups: u32, lane: u32) {
  let all_heads = params.heads + 2u * params.kv_heads;
  let per_row = all_heads * params.half_width;
  let end = min(step_meta[params.range + 1u], params.row_capacity) * per_row;
  let start = step_meta[params.range] * per_row;
#if ODD
  let head_length = params.half_width; // in words of two
  let half = params.half_width; // in elements
#else
  let head_length = 2u * params.half_width; // in vectors
  let half = params.half_width * {{WIDTH}}u;
#endif
  let stride = groups * {{WORKGROUP_SIZE}}u;
  for (var at = start + group * {{WORKGROUP_SIZE}}u + lane; at < end; at += stride) {
    let row = at / per_row;
    let head_and_column = at - row * per_row;
    let head = head_and_column / params.half_width;
    let column = head_and_column - head * params.half_width;
    let head_at = (row * all_heads + head) * head_length;
    let is_q = head < params.heads;
    let is_v = head >= params.heads + params.kv_heads;

    // Where the head goes: q's row, or the token's slot in its page.
    var to = (row * params.heads + head) * head_length;
    if (!is_q) {
      let slot = step_meta[params.kv_slots + row];
      if (slot >= params.slots) {
        continue;
      }
      let page = slot / params.page_size;
      let kv_head = select(head - params.heads, head - params.heads - params.kv_heads, is_v);
      to = ((page * params.kv_heads + kv_head) * params.page_size + (slot - page * params.page_size)) * head_length;
    }

#if ODD
    if (is_v) {
      v_cache[to + column] = store_{{KV}}x2(load_{{IN}}x2(qkv[head_at + column]));
      continue;
    }
    let table_at = min(step_meta[params.positions + row], params.table_rows - 1u) * half;
    var scale = 1.0;
#if NORM
    scale = rope_head_scale(head_at, head_length);
#endif
    let rotated = vec2<f32>(
      rope_rotated(head_at, 2u * column, table_at, is_q, scale),
      rope_rotated(head_at, 2u * column + 1u, table_at, is_q, scale),
    );
    if (is_q) {
      q[to + column] = store_{{Q}}x2(rotated);
    } else {
      k_cache[to + column] = store_{{KV}}x2(rotated);
    }
#else
    let upper = column + params.half_width;
    var first = load_{{IN}}x{{WIDTH}}(qkv[head_at + column]);
    var second = load_{{IN}}x{{WIDTH}}(qkv[head_at + upper]);
    if (is_v) {
      v_cache[to + column] = store_{{KV}}x{{WIDTH}}(first);
      v_cache[to + upper] = store_{{KV}}x{{WIDTH}}(second);
      continue;
    }
#if NORM
    let scale = rope_head_scale(head_at, head_length);
    first *= scale * rope_weight(is_q, column * {{WIDTH}}u);
    second *= scale * rope_weight(is_q, upper * {{WIDTH}}u);
#endif
    let table_at = min(step_meta[params.positions + row], params.table_rows - 1u) * half;
    let angles = rope_angles(table_at + column * {{WIDTH}}u);
    let low = first * angles.cosine - second * angles.sine;
    let high = second * angles.cosine + first * angles.sine;
    if (is_q) {
      q[to + column] = store_{{Q}}x{{WIDTH}}(low);
      q[to + upper] = store_{{Q}}x{{WIDTH}}(high);
    } else {
      k_cache[to + column] = store_{{KV}}x{{WIDTH}}(low);
      k_cache[to + upper] = store_{{KV}}x{{WIDTH}}(high);
    }
#endif
  }
}

#include "lib/main.wgsl"
