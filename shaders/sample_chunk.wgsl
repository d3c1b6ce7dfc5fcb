// First stage of sampling, one workgroup for each (row, chunk of the vocabulary): statistics and best tokens of the raw
// logits where they are wanted, adjustments (in place), and the chunk's best token for rows without thresholds: greedy,
// or drawn by the Gumbel-max trick (argmax of logit / temperature + Gumbel noise is a draw from the softmax).
//
// All passes over the chunk are rounds of one loop with one place that loads: what a software adapter compiles grows
// with the number of loads in the text.
#include "sample_common.wgsl"

@group(0) @binding(1) var<storage, read> step_meta: array<u32>;
@group(0) @binding(2) var<storage, read_write> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> scratch: array<u32>;

const SAMPLE_PASS_RAW = 0u; // largest raw logit and sum of exponentials
const SAMPLE_PASS_SCORE = 1u; // best adjusted token
const SAMPLE_PASS_MASS = 2u; // sum of exponentials at the row's temperature
const SAMPLE_PASS_TOP = 3u; // pass TOP + i: the chunk's i-th largest raw logit

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
  let tops = min(row.top_logprobs, end - first);

  var previous = SampleBest(-SAMPLE_ABSENT, 0u); // what the pass before found
  var pass_ = select(SAMPLE_PASS_SCORE, SAMPLE_PASS_RAW, row.logprobs);
  loop {
    if (pass_ == SAMPLE_PASS_SCORE && row.adjust_start < row.adjust_end) {
      sample_chunk_adjust(row_index, row, base, first, end, lane);
      storageBarrier();
    }
    let log_sums = pass_ == SAMPLE_PASS_RAW || pass_ == SAMPLE_PASS_MASS;
    let none = select(SAMPLE_NONE, 0u, pass_ == SAMPLE_PASS_SCORE);
    let mine = sample_chunk_pass(pass_, row, previous, base, first, end, none, lane);
    let total = sample_reduce(lane, mine, log_sums, vec2<f32>(1.0, 0.0));
    if (lane == 0u) {
      if (pass_ == SAMPLE_PASS_RAW) {
        scratch[out + SAMPLE_PARTIAL_RAW_MAX] = total.x;
        scratch[out + SAMPLE_PARTIAL_RAW_SUM] = total.y;
      } else if (pass_ == SAMPLE_PASS_SCORE) {
        scratch[out + SAMPLE_PARTIAL_SCORE] = total.x;
        scratch[out + SAMPLE_PARTIAL_TOKEN] = total.y;
      } else if (pass_ == SAMPLE_PASS_MASS) {
        scratch[out + SAMPLE_PARTIAL_MASS] = total.w;
      } else {
        let word = params.top + unit * SAMPLE_TOP_WORDS + pass_ - SAMPLE_PASS_TOP;
        scratch[word] = total.y;
        scratch[word + MAX_TOP_LOGPROBS] = total.x;
      }
    }
    if (pass_ == SAMPLE_PASS_MASS || (pass_ == SAMPLE_PASS_SCORE && row.mode != SAMPLE_MODE_FILTERED)) {
      break;
    }
    // Order: raw sums, best raw logits, then adjustments and what follows from them.
    if (pass_ == SAMPLE_PASS_RAW) {
      pass_ = select(SAMPLE_PASS_SCORE, SAMPLE_PASS_TOP, tops > 0u);
    } else if (pass_ == SAMPLE_PASS_SCORE) {
      pass_ = SAMPLE_PASS_MASS;
      previous = SampleBest(bitcast<f32>(total.x), total.y);
    } else {
      previous = SampleBest(bitcast<f32>(total.x), total.y);
      pass_ = select(SAMPLE_PASS_SCORE, pass_ + 1u, pass_ + 1u < SAMPLE_PASS_TOP + tops);
    }
  }
}

fn sample_chunk_pass(
  pass_: u32,
  row: SampleRow,
  previous: SampleBest,
  base: u32,
  first: u32,
  end: u32,
  none: u32,
  lane: u32,
) -> vec4<u32> {
  var best = SampleBest(SAMPLE_ABSENT, none);
  var sum = vec2<f32>(SAMPLE_ABSENT, 0.0);
  var mass = 0.0;
  for (var token = first + lane * 4u; token < end; token += SAMPLE_LANES * 4u) {
    let v = sample_chunk_load(base, token, end);
    if (pass_ == SAMPLE_PASS_SCORE) {
      let allowed = v > vec4<f32>(-SAMPLE_LIMIT);
      var scores = v;
      if (row.mode == SAMPLE_MODE_PLAIN) {
        scores = v * row.inverse_temperature;
        if (sample_max4(scores) + SAMPLE_NOISE_MOST < best.score) {
          continue;
        }
        scores += sample_noise(row.seed, row.counter, token / 4u);
      }
      best = sample_better4(best, select(vec4<f32>(SAMPLE_ABSENT), scores, allowed), token);
    } else if (pass_ == SAMPLE_PASS_RAW) {
      let most = max(sum.x, sample_max4(v));
      let terms = exp(max(v - vec4<f32>(most), vec4<f32>(-100.0)));
      sum = vec2<f32>(most, sum.y * exp(max(sum.x - most, -100.0)) + ((terms.x + terms.y) + (terms.z + terms.w)));
    } else if (pass_ == SAMPLE_PASS_MASS) {
      let distance = (vec4<f32>(previous.score) - v) * row.inverse_temperature;
      let terms = exp(-clamp(distance, vec4<f32>(0.0), vec4<f32>(100.0)));
      mass += (terms.x + terms.y) + (terms.z + terms.w);
    } else if (sample_max4(v) >= best.score) {
      // The best token behind the one that the pass before found.
      let ids = vec4<u32>(token) + vec4<u32>(0u, 1u, 2u, 3u);
      let behind = (v < vec4<f32>(previous.score)) | ((v == vec4<f32>(previous.score)) & (ids > vec4<u32>(previous.token)));
      best = sample_better4(best, select(vec4<f32>(SAMPLE_ABSENT), v, behind), token);
    }
  }
  if (pass_ == SAMPLE_PASS_RAW || pass_ == SAMPLE_PASS_MASS) {
    return bitcast<vec4<u32>>(vec4<f32>(sum, 0.0, mass));
  }
  return vec4<u32>(bitcast<u32>(best.score), best.token, 0u, 0u);
}

// Clean logits of tokens token .. token + 3, SAMPLE_ABSENT from `end` on.
fn sample_chunk_load(base: u32, token: u32, end: u32) -> vec4<f32> {
  let ids = vec4<u32>(token) + vec4<u32>(0u, 1u, 2u, 3u);
  let at = vec4<u32>(base) + min(ids, vec4<u32>(end - 1u));
  let v = sample_clean4(vec4<f32>(logits[at.x], logits[at.y], logits[at.z], logits[at.w]));
  return select(vec4<f32>(SAMPLE_ABSENT), v, ids < vec4<u32>(end));
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
    let seen = count > 0u || step_meta[word + ADJUST_IN_PROMPT] > 0u;
    let bias = sample_clean(bitcast<f32>(step_meta[word + ADJUST_BIAS]));
    let raw = sample_clean(logits[base + token]);
    var value = select(raw, select(raw * repetition, raw / repetition, raw > 0.0), seen);
    value -= frequency * f32(count) + select(0.0, presence, count > 0u);
    value = clamp(value + bias, -SAMPLE_LIMIT, SAMPLE_LIMIT);
    let forbidden = raw <= -SAMPLE_LIMIT || bias <= -SAMPLE_LIMIT;
    logits[base + token] = select(value, -SAMPLE_LIMIT, forbidden);
    scratch[params.saved + entry] = bitcast<u32>(raw);
  }
}

#include "lib/main.wgsl"
