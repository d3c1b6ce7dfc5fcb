// Second stage of sampling, one workgroup for each row: joins the chunks' results, draws where thresholds need the
// whole row, and looks up log-probabilities, rank and best tokens of the raw logits.
#include "sample_common.wgsl"
#include "sample_filter.wgsl"

@group(0) @binding(1) var<storage, read> step_meta: array<u32>;
#if VECTOR
@group(0) @binding(2) var<storage, read> logits: array<vec4<f32>>;
#else
@group(0) @binding(2) var<storage, read> logits: array<f32>;
#endif
@group(0) @binding(3) var<storage, read> scratch: array<u32>;
@group(0) @binding(4) var<storage, read_write> sampled: array<u32>;

fn run(group: u32, groups: u32, lane: u32) {
  let rows = min(step_meta[COUNT_LOGIT_ROWS], params.row_capacity);
  for (var row = group; row < rows; row += groups) {
    sample_row(row, lane);
  }
}

// Clean logits of tokens token .. token + 3 (token is a multiple of 4), SAMPLE_ABSENT behind the vocabulary.
fn sample_row_load(row: u32, token: u32) -> vec4<f32> {
#if VECTOR
  return sample_clean4(logits[(row * params.vocab + token) / 4u]);
#else
  let at = row * params.vocab + token;
  var v = vec4<f32>(SAMPLE_ABSENT);
  if (token + 4u <= params.vocab) {
    v = sample_clean4(vec4<f32>(logits[at], logits[at + 1u], logits[at + 2u], logits[at + 3u]));
  } else {
    v.x = sample_clean(logits[at]);
    if (token + 1u < params.vocab) { v.y = sample_clean(logits[at + 1u]); }
    if (token + 2u < params.vocab) { v.z = sample_clean(logits[at + 2u]); }
  }
  return v;
#endif
}

fn sample_logit(row: u32, token: u32) -> f32 {
#if VECTOR
  return sample_clean(logits[(row * params.vocab + token) / 4u][token % 4u]);
#else
  return sample_clean(logits[row * params.vocab + token]);
#endif
}

fn sample_row(row_index: u32, lane: u32) {
  let row = sample_row_parameters(row_index);
  let first_unit = row_index * params.chunks;
  var best = SampleBest(SAMPLE_ABSENT, 0u);
  for (var chunk = lane; chunk < params.chunks; chunk += SAMPLE_LANES) {
    let at = (first_unit + chunk) * SAMPLE_PARTIAL_WORDS;
    let score = bitcast<f32>(scratch[at + SAMPLE_PARTIAL_SCORE]);
    best = sample_better(best, SampleBest(score, scratch[at + SAMPLE_PARTIAL_TOKEN]));
  }
  best = sample_reduce_best(lane, best);
  var token = best.token;
  if (row.mode == SAMPLE_MODE_FILTERED) {
    let inverse = row.inverse_temperature;
    var mass = vec2<f32>(SAMPLE_ABSENT, 0.0);
    for (var chunk = lane; chunk < params.chunks; chunk += SAMPLE_LANES) {
      let at = (first_unit + chunk) * SAMPLE_PARTIAL_WORDS;
      let part = bitcast<vec2<f32>>(vec2<u32>(scratch[at + SAMPLE_PARTIAL_SCORE], scratch[at + SAMPLE_PARTIAL_MASS]));
      mass = sample_add_log_sum(mass, part, inverse);
    }
    mass = sample_reduce_log_sum(lane, mass, inverse);
    let scale = SampleScale(row_index, best.score, inverse, inverse * SAMPLE_BINS_PER_UNIT);
    token = select(sample_filtered(row, scale, mass.y, lane), 0u, best.score == SAMPLE_ABSENT);
  }

  let out = row_index * SAMPLED_WORDS;
  var logprob = 0.0;
  var rank = 0u;
  if (row.logprobs) {
    var sum = vec2<f32>(SAMPLE_ABSENT, 0.0);
    for (var chunk = lane; chunk < params.chunks; chunk += SAMPLE_LANES) {
      let at = (first_unit + chunk) * SAMPLE_PARTIAL_WORDS;
      let part = vec2<u32>(scratch[at + SAMPLE_PARTIAL_RAW_MAX], scratch[at + SAMPLE_PARTIAL_RAW_SUM]);
      sum = sample_add_log_sum(sum, bitcast<vec2<f32>>(part), 1.0);
    }
    sum = sample_reduce_log_sum(lane, sum, 1.0);
    let raw = sample_raw(row_index, row, token, lane);
    logprob = sample_logprob(raw, sum);
    rank = sample_rank_of(row_index, row, raw, sum.x, lane);
    sample_top(row.top_logprobs, first_unit, sum, out, lane);
  }
  if (lane == 0u) {
    sampled[out + SAMPLED_TOKEN] = token;
    sampled[out + SAMPLED_LOGPROB] = bitcast<u32>(logprob);
    sampled[out + SAMPLED_RANK] = rank;
    sampled[out + SAMPLED_TOP_COUNT] = row.top_logprobs;
  }
}

// Log-softmax from (largest, sum of exp(logit - largest)).
fn sample_logprob(raw: f32, sum: vec2<f32>) -> f32 {
  let value = max((raw - sum.x) - log(sum.y), -SAMPLE_LIMIT);
  return select(value, -SAMPLE_LIMIT, sum.x <= -SAMPLE_LIMIT);
}

// Raw logit of a token: where it was adjusted, the one that the first stage kept.
fn sample_raw(row_index: u32, row: SampleRow, token: u32, lane: u32) -> f32 {
  var kept = SampleBest(SAMPLE_ABSENT, SAMPLE_NONE);
  for (var entry = row.adjust_start + lane; entry < row.adjust_end; entry += SAMPLE_LANES) {
    if (step_meta[params.adjust + entry * ADJUST_WORDS + ADJUST_TOKEN] == token) {
      kept = SampleBest(bitcast<f32>(scratch[params.saved + entry]), token);
    }
  }
  kept = sample_reduce_best(lane, kept);
  if (kept.token == token) {
    return kept.score;
  }
  return sample_logit(row_index, token);
}

// How many raw logits are larger than `raw`.
fn sample_rank_of(row_index: u32, row: SampleRow, raw: f32, most: f32, lane: u32) -> u32 {
  var count = 0u;
  if (raw < most) {
    for (var token = lane * 4u; token < params.vocab; token += SAMPLE_LANES * 4u) {
      let larger = sample_row_load(row_index, token) > vec4<f32>(raw);
      let ones = select(vec4<u32>(0u), vec4<u32>(1u), larger);
      count += (ones.x + ones.y) + (ones.z + ones.w);
    }
    // Adjusted tokens count with their raw logits instead (the difference may wrap, the sum does not).
    for (var entry = row.adjust_start + lane; entry < row.adjust_end; entry += SAMPLE_LANES) {
      let token = step_meta[params.adjust + entry * ADJUST_WORDS + ADJUST_TOKEN];
      if (token < params.vocab) {
        let adjusted = sample_logit(row_index, token);
        count += select(0u, 1u, bitcast<f32>(scratch[params.saved + entry]) > raw);
        count -= select(0u, 1u, adjusted > raw);
      }
    }
  }
  return sample_reduce_u64(lane, vec2<u32>(count, 0u)).x;
}

// The row's best tokens out of its chunks' best tokens.
fn sample_top(count: u32, first_unit: u32, sum: vec2<f32>, out: u32, lane: u32) {
  var last = SampleBest(-SAMPLE_ABSENT, 0u);
  for (var i = 0u; i < count; i++) {
    var best = SampleBest(SAMPLE_ABSENT, SAMPLE_NONE);
    for (var at = lane; at < params.chunks * count; at += SAMPLE_LANES) {
      let chunk = at / count;
      let place = at % count;
      if (chunk * params.chunk + place < params.vocab) {
        let word = params.top + (first_unit + chunk) * SAMPLE_TOP_WORDS + place;
        let token = scratch[word];
        let value = bitcast<f32>(scratch[word + MAX_TOP_LOGPROBS]);
        if (value < last.score || (value == last.score && token > last.token)) {
          best = sample_better(best, SampleBest(value, token));
        }
      }
    }
    last = sample_reduce_best(lane, best);
    if (lane == 0u) {
      sampled[out + SAMPLED_TOP_TOKENS + i] = last.token;
      sampled[out + SAMPLED_TOP_LOGPROBS + i] = bitcast<u32>(sample_logprob(last.score, sum));
    }
  }
}

#include "lib/main.wgsl"
