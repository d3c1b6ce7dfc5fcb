// First stage of sampling, one workgroup for each (row, chunk of the vocabulary): statistics and best tokens of the raw
// logits where they are wanted, adjustments (in place), and the chunk's best token for rows without thresholds: greedy,
// or drawn by the Gumbel-max trick (argmax of logit / temperature + Gumbel noise is a draw from the softmax).
#include "sample_common.wgsl"

@group(0) @binding(1) var<storage, read> step_meta: array<u32>;
@group(0) @binding(2) var<storage, read_write> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> scratch: array<u32>;

fn run(group: u32, groups: u32, lane: u32) {
  let units = min(step_meta[COUNT_LOGIT_ROWS], params.row_capacity) * params.chunks;
  for (var unit = group; unit < units; unit += groups) {
    sample_chunk(unit, lane);
  }
}

fn sample_chunk(unit: u32, lane: u32) {
  let row_index = unit / params.chunks;
  let first = (unit % params.chunks) * params.chunk;
  let end = min(first + params.chunk, params.vocab);
  let base = row_index * params.vocab;
  let row = sample_row_parameters(row_index);
  let out = unit * SAMPLE_PARTIAL_WORDS;

  if (row.logprobs) {
    var sum = vec2<f32>(SAMPLE_ABSENT, 0.0);
    for (var token = first + lane * 4u; token < end; token += SAMPLE_LANES * 4u) {
      sum = sample_add_quad(sum, sample_chunk_load(base, token, end), 1.0);
    }
    sum = sample_reduce_log_sum(lane, sum, 1.0);
    if (lane == 0u) {
      scratch[out + SAMPLE_PARTIAL_RAW_MAX] = bitcast<u32>(sum.x);
      scratch[out + SAMPLE_PARTIAL_RAW_SUM] = bitcast<u32>(sum.y);
    }
    sample_chunk_top(row.top_logprobs, base, first, end, params.top + unit * SAMPLE_TOP_WORDS, lane);
  }
  if (row.adjust_start < row.adjust_end) {
    sample_chunk_adjust(row_index, row, base, first, end, lane);
    storageBarrier();
  }

  var best = SampleBest(SAMPLE_ABSENT, 0u);
  if (row.mode == SAMPLE_MODE_PLAIN) {
    for (var token = first + lane * 4u; token < end; token += SAMPLE_LANES * 4u) {
      let v = sample_chunk_load(base, token, end);
      let scaled = v * row.inverse_temperature;
      if (sample_max4(scaled) + SAMPLE_NOISE_MOST >= best.score) {
        let noisy = scaled + sample_noise(row.seed, row.counter, token / 4u);
        let allowed = v > vec4<f32>(-SAMPLE_LIMIT);
        best = sample_better4(best, select(vec4<f32>(SAMPLE_ABSENT), noisy, allowed), token);
      }
    }
  } else {
    for (var token = first + lane * 4u; token < end; token += SAMPLE_LANES * 4u) {
      let v = sample_chunk_load(base, token, end);
      best = sample_better4(best, select(vec4<f32>(SAMPLE_ABSENT), v, v > vec4<f32>(-SAMPLE_LIMIT)), token);
    }
  }
  best = sample_reduce_best(lane, best);
  if (row.mode == SAMPLE_MODE_FILTERED) {
    var mass = 0.0;
    for (var token = first + lane * 4u; token < end; token += SAMPLE_LANES * 4u) {
      let distance = (vec4<f32>(best.score) - sample_chunk_load(base, token, end)) * row.inverse_temperature;
      let terms = exp(-clamp(distance, vec4<f32>(0.0), vec4<f32>(100.0)));
      mass += (terms.x + terms.y) + (terms.z + terms.w);
    }
    mass = sample_reduce_log_sum(lane, vec2<f32>(0.0, mass), 0.0).y;
    if (lane == 0u) {
      scratch[out + SAMPLE_PARTIAL_MASS] = bitcast<u32>(mass);
    }
  }
  if (lane == 0u) {
    scratch[out + SAMPLE_PARTIAL_SCORE] = bitcast<u32>(best.score);
    scratch[out + SAMPLE_PARTIAL_TOKEN] = best.token;
  }
}

// Clean logits of tokens token .. token + 3, SAMPLE_ABSENT from `end` on.
fn sample_chunk_load(base: u32, token: u32, end: u32) -> vec4<f32> {
  let at = base + token;
  if (token + 4u <= end) {
    return sample_clean4(vec4<f32>(logits[at], logits[at + 1u], logits[at + 2u], logits[at + 3u]));
  }
  var v = vec4<f32>(SAMPLE_ABSENT);
  v.x = sample_clean(logits[at]);
  if (token + 1u < end) { v.y = sample_clean(logits[at + 1u]); }
  if (token + 2u < end) { v.z = sample_clean(logits[at + 2u]); }
  return v;
}

// The chunk's `count` largest raw logits, best first, one after the other: each is the best one behind its predecessor.
fn sample_chunk_top(count: u32, base: u32, first: u32, end: u32, out: u32, lane: u32) {
  var last = SampleBest(-SAMPLE_ABSENT, 0u);
  for (var i = 0u; i < min(count, end - first); i++) {
    var best = SampleBest(SAMPLE_ABSENT, SAMPLE_NONE);
    for (var token = first + lane * 4u; token < end; token += SAMPLE_LANES * 4u) {
      let v = sample_chunk_load(base, token, end);
      if (sample_max4(v) >= best.score) {
        for (var j = 0u; j < 4u; j++) {
          let behind = v[j] < last.score || (v[j] == last.score && token + j > last.token);
          if (behind && token + j < end) {
            best = sample_better(best, SampleBest(v[j], token + j));
          }
        }
      }
    }
    last = sample_reduce_best(lane, best);
    if (lane == 0u) {
      scratch[out + i] = last.token;
      scratch[out + MAX_TOP_LOGPROBS + i] = bitcast<u32>(last.score);
    }
  }
}

// Applies the row's entries for tokens of this chunk and keeps their raw logits for the second stage.
fn sample_chunk_adjust(row_index: u32, row: SampleRow, base: u32, first: u32, end: u32, lane: u32) {
  let at = params.sampling + row_index * SAMPLE_WORDS;
  let repetition = bitcast<f32>(step_meta[at + SAMPLE_REPETITION_PENALTY]);
  let frequency = bitcast<f32>(step_meta[at + SAMPLE_FREQUENCY_PENALTY]);
  let presence = bitcast<f32>(step_meta[at + SAMPLE_PRESENCE_PENALTY]);
  for (var entry = row.adjust_start + lane; entry < row.adjust_end; entry += SAMPLE_LANES) {
    let word = params.adjust + entry * ADJUST_WORDS;
    let token = step_meta[word + ADJUST_TOKEN];
    if (token < first || token >= end) {
      continue;
    }
    let count = step_meta[word + ADJUST_OUTPUT_COUNT];
    let bias = sample_clean(bitcast<f32>(step_meta[word + ADJUST_BIAS]));
    var value = sample_clean(logits[base + token]);
    scratch[params.saved + entry] = bitcast<u32>(value);
    if (value > -SAMPLE_LIMIT && bias > -SAMPLE_LIMIT) {
      if (count > 0u || step_meta[word + ADJUST_IN_PROMPT] > 0u) {
        value = select(value * repetition, value / repetition, value > 0.0);
      }
      value -= frequency * f32(count);
      if (count > 0u) {
        value -= presence;
      }
      value = clamp(value + bias, -SAMPLE_LIMIT, SAMPLE_LIMIT);
    } else {
      value = -SAMPLE_LIMIT;
    }
    logits[base + token] = value;
  }
}

#include "lib/main.wgsl"
