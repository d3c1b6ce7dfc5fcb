// Second stage of sampling, one workgroup for each row: joins the chunks' results, draws where thresholds need the
// whole row, and looks up log-probabilities, rank and best tokens of the raw logits.
//
// A row goes through phases: each is a piece of parallel work, a reduction, and a decision of invocation 0 about the
// next phase. (One loop with one place for each kind of access, because what a software adapter compiles grows with
// the number of loads, atomics and barriers in the text.)
//
//   MERGE, MERGE_SUMS             chunks' results; rows without thresholds have their token now
//   QUADS                         a bound for top-k
//   GATHER, RANK, LIST_DRAW       usual case: few tokens can be left; they are ranked against each other
//   HISTOGRAM.., BORDER, RANK     otherwise: narrows down the last token that is left, once for top-k, once for top-p
//   DRAW                          and draws among those before it
//   RAW, COUNT, TOP..             log-probabilities
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

const SAMPLE_MERGE = 0u;
const SAMPLE_MERGE_SUMS = 1u;
const SAMPLE_QUADS = 2u;
const SAMPLE_GATHER = 3u;
const SAMPLE_HISTOGRAM = 4u;
const SAMPLE_BORDER = 5u;
const SAMPLE_DRAW = 6u;
const SAMPLE_COUNT = 7u;
const SAMPLE_RANK = 8u;
const SAMPLE_LIST_DRAW = 9u;
const SAMPLE_RAW = 10u;
const SAMPLE_TOP = 11u;
const SAMPLE_DONE = 12u;

struct SampleState {
  phase: u32,
  token: u32, // drawn
  raw: f32, // its raw logit
  rank: u32,
  most: f32, // largest adjusted logit
  raw_sum: vec2<f32>, // of the raw logits: largest, sum of exp(logit - largest)
  mass: f32, // sum of exp(-distance), about
  last_bin: u32, // gathered bins
  length: u32, // of the list
  narrow: u32, // 0: the list holds all tokens that may be left, 1: those around the border
  by_mass: u32, // the border is where the mass, not the count, reaches `wanted`
  wanted: vec2<u32>,
  total: vec2<u32>, // mass of all tokens, or of those that top-k left
  before_count: u32, // of the interval
  before_mass: vec2<u32>,
  interval: SampleInterval,
  tops: u32, // best tokens found so far
  top: SampleBest, // and the last of them
}
var<workgroup> sample_state: SampleState;

// The last token that is left, and the mass up to it, itself included.
struct SampleCut {
  key: u32,
  token: u32,
  mass: vec2<u32>,
}
var<workgroup> sample_cut: SampleCut;

fn run(group: u32, groups: u32, lane: u32) {
  let rows = min(step_meta[COUNT_LOGIT_ROWS], params.row_capacity);
  for (var row = group; row < rows; row += groups) {
    sample_row(row, lane);
  }
}

fn sample_row(row_index: u32, lane: u32) {
  let row = sample_row_parameters(row_index);
  if (lane == 0u) {
    var start: SampleState;
    sample_state = start;
  }
  loop {
    let state = workgroupUniformLoad(&sample_state);
    if (state.phase == SAMPLE_DONE) {
      break;
    }
    let scale =
      SampleScale(state.most, row.inverse_temperature, row.inverse_temperature * SAMPLE_BINS_PER_UNIT);
    let histogram = state.phase == SAMPLE_QUADS || state.phase == SAMPLE_HISTOGRAM;
    if (histogram) {
      for (var bin = lane; bin < SAMPLE_BINS; bin += SAMPLE_LANES) {
        atomicStore(&sample_count[bin], 0u);
        atomicStore(&sample_mass_low[bin], 0u);
        atomicStore(&sample_mass_high[bin], 0u);
      }
      workgroupBarrier();
    }
    var mine: vec4<u32>;
    if (state.phase >= SAMPLE_QUADS && state.phase <= SAMPLE_COUNT) {
      mine = sample_pass(row_index, row, state, scale, lane);
    } else if (state.phase == SAMPLE_RANK) {
      mine = sample_rank(row, state, lane);
    } else if (state.phase == SAMPLE_LIST_DRAW) {
      mine = sample_list_draw(row, state, scale, lane);
    } else if (state.phase != SAMPLE_RAW) {
      mine = sample_of_chunks(row_index, row, state, lane);
    }
    if (state.phase == SAMPLE_RAW || state.phase == SAMPLE_COUNT) {
      mine = sample_adjusted(row_index, row, state, mine, lane);
    }
    let scales = vec2<f32>(1.0, row.inverse_temperature);
    let total = sample_reduce(lane, mine, state.phase == SAMPLE_MERGE_SUMS, scales);
    if (histogram) {
      for (var segment = lane; segment < SAMPLE_SEGMENTS; segment += SAMPLE_LANES) {
        var sum = vec3<u32>(0u);
        for (var bin = segment * SAMPLE_SEGMENT; bin < (segment + 1u) * SAMPLE_SEGMENT; bin++) {
          let mass = vec2<u32>(atomicLoad(&sample_mass_low[bin]), atomicLoad(&sample_mass_high[bin]));
          sum = vec3<u32>(sum.x + atomicLoad(&sample_count[bin]), sample_add64(sum.yz, mass));
        }
        sample_segment[segment] = sum;
      }
      workgroupBarrier();
    }
    if (lane == 0u) {
      sample_state = sample_next(row_index, row, state, scale, total);
    }
  }
}

// Clean logits of tokens token .. token + 3 (token is a multiple of 4), SAMPLE_ABSENT behind the vocabulary.
fn sample_row_load(row: u32, token: u32) -> vec4<f32> {
#if VECTOR
  return sample_clean4(logits[(row * params.vocab + token) / 4u]);
#else
  let ids = vec4<u32>(token) + vec4<u32>(0u, 1u, 2u, 3u);
  let at = vec4<u32>(row * params.vocab) + min(ids, vec4<u32>(params.vocab - 1u));
  let v = sample_clean4(vec4<f32>(logits[at.x], logits[at.y], logits[at.z], logits[at.w]));
  return select(vec4<f32>(SAMPLE_ABSENT), v, ids < vec4<u32>(params.vocab));
#endif
}

fn sample_logit(row: u32, token: u32) -> f32 {
#if VECTOR
  let quad = logits[(row * params.vocab + token) / 4u];
  return sample_clean(quad[token % 4u]);
#else
  return sample_clean(logits[row * params.vocab + token]);
#endif
}

fn sample_result(best: SampleBest, sum: vec2<u32>) -> vec4<u32> {
  return vec4<u32>(bitcast<u32>(best.score), best.token, sum);
}

// MERGE, MERGE_SUMS: the chunks' results. TOP: the best of the chunks' best tokens behind the last one found.
fn sample_of_chunks(row_index: u32, row: SampleRow, state: SampleState, lane: u32) -> vec4<u32> {
  let places = select(1u, row.top_logprobs, state.phase == SAMPLE_TOP);
  var mine = sample_result(SampleBest(SAMPLE_ABSENT, select(0u, SAMPLE_NONE, places > 1u)), vec2<u32>(0u));
  if (state.phase == SAMPLE_MERGE_SUMS) {
    mine = bitcast<vec4<u32>>(vec4<f32>(SAMPLE_ABSENT, 0.0, SAMPLE_ABSENT, 0.0));
  }
  for (var at = lane; at < params.chunks * places; at += SAMPLE_LANES) {
    let chunk = at / places;
    let place = at % places;
    let unit = row_index * params.chunks + chunk;
    var word = unit * SAMPLE_PARTIAL_WORDS + SAMPLE_PARTIAL_TOKEN;
    var score_word = unit * SAMPLE_PARTIAL_WORDS + SAMPLE_PARTIAL_SCORE;
    if (state.phase == SAMPLE_TOP) {
      if (chunk * params.chunk + place >= params.vocab) {
        continue;
      }
      word = params.top + unit * SAMPLE_TOP_WORDS + place;
      score_word = word + MAX_TOP_LOGPROBS;
    }
    var other = vec4<u32>(scratch[score_word], scratch[word], 0u, 0u);
    if (state.phase == SAMPLE_MERGE_SUMS) {
      let sums = unit * SAMPLE_PARTIAL_WORDS;
      let raw = vec2<u32>(scratch[sums + SAMPLE_PARTIAL_RAW_MAX], scratch[sums + SAMPLE_PARTIAL_RAW_SUM]);
      other = vec4<u32>(raw, other.x, scratch[sums + SAMPLE_PARTIAL_MASS]);
    } else if (state.phase == SAMPLE_TOP) {
      let score = bitcast<f32>(other.x);
      if (score > state.top.score || (score == state.top.score && other.y <= state.top.token)) {
        continue;
      }
    }
    mine = sample_combine(mine, other, state.phase == SAMPLE_MERGE_SUMS, vec2<f32>(1.0, row.inverse_temperature));
  }
  return mine;
}

// One pass over the row.
fn sample_pass(row_index: u32, row: SampleRow, state: SampleState, scale: SampleScale, lane: u32) -> vec4<u32> {
  let masses = row.top_p < 1.0;
  let farthest = sample_farthest(row);
  var best = SampleBest(SAMPLE_ABSENT, 0u);
  var sum = vec2<u32>(0u);
  for (var token = lane * 4u; token < params.vocab; token += SAMPLE_LANES * 4u) {
    var values = sample_row_load(row_index, token);
    if (state.phase == SAMPLE_COUNT) {
      let ones = select(vec4<u32>(0u), vec4<u32>(1u), values > vec4<f32>(state.raw));
      sum.x += (ones.x + ones.y) + (ones.z + ones.w);
      continue;
    }
    let nearest = sample_distance_bin(scale, sample_max4(values));
    if (nearest >= SAMPLE_BINS) {
      continue;
    }
    if (state.phase == SAMPLE_QUADS) {
      atomicAdd(&sample_count[nearest], 1u);
      continue;
    }
    var noise = vec4<f32>(0.0);
    if (state.phase == SAMPLE_DRAW) {
      if (sample_key(sample_max4(values)) < sample_cut.key) {
        continue;
      }
      noise = sample_noise(row.seed, row.counter, token / 4u);
    }
    for (var id = token; id < token + 4u; id++) {
      let value = values.x;
      let mass = sample_mass(scale, value);
      let bin = sample_bin(scale, state.interval, value, id);
      if (state.phase == SAMPLE_DRAW) {
        let key = sample_key(value);
        let left = (key > sample_cut.key || (key == sample_cut.key && id <= sample_cut.token)) && bin < SAMPLE_BINS &&
          (scale.most - value) * scale.inverse_temperature <= farthest;
        let score = value * scale.inverse_temperature + noise.x;
        best = sample_better(best, SampleBest(select(SAMPLE_ABSENT, score, left), id));
      } else if (state.phase == SAMPLE_HISTOGRAM) {
        if (bin < SAMPLE_BINS) {
          atomicAdd(&sample_count[bin], 1u);
          if (masses && atomicAdd(&sample_mass_low[bin], mass) > 0xffffffffu - mass) {
            atomicAdd(&sample_mass_high[bin], 1u);
          }
        }
      } else {
        sum = sample_add64(sum, vec2<u32>(mass, 0u));
        if (bin <= state.last_bin) {
          let at = atomicAdd(&sample_list_length, 1u);
          if (at < SAMPLE_LIST) {
            sample_list_key[at] = sample_key(value);
            sample_list_token[at] = id;
            sample_list_mass[at] = mass;
          }
        }
      }
      values = values.yzwx;
      noise = noise.yzwx;
    }
  }
  return sample_result(best, sum);
}

// How far min-p lets a token be.
fn sample_farthest(row: SampleRow) -> f32 {
  return select(f32(SAMPLE_BINS), max(-log(row.min_p), 0.0), row.min_p > 0.0);
}

// RANK: for each token of the list how many tokens, and what mass, come before it. The sum is the mass that top-k
// leaves. Around a border, the token at which count or mass reaches what is wanted becomes the cut.
fn sample_rank(row: SampleRow, state: SampleState, lane: u32) -> vec4<u32> {
  var sum = vec2<u32>(0u);
  for (var i = lane; i < state.length; i += SAMPLE_LANES) {
    let key = sample_list_key[i];
    let token = sample_list_token[i];
    let own = vec2<u32>(sample_list_mass[i], 0u);
    var count = state.before_count;
    var mass = state.before_mass;
    for (var j = 0u; j < state.length; j++) {
      let other = sample_list_key[j];
      if (other > key || (other == key && sample_list_token[j] < token)) {
        count++;
        mass = sample_add64(mass, vec2<u32>(sample_list_mass[j], 0u));
      }
    }
    if (count < row.top_k) {
      sum = sample_add64(sum, own);
    }
    let with_own = sample_add64(mass, own);
    let before = select(vec2<u32>(count, 0u), mass, state.by_mass > 0u);
    let with_it = select(vec2<u32>(count + 1u, 0u), with_own, state.by_mass > 0u);
    if (state.narrow > 0u && sample_less64(before, state.wanted) && !sample_less64(with_it, state.wanted)) {
      sample_cut = SampleCut(key, token, with_own);
    }
    atomicStore(&sample_count[i], count);
    atomicStore(&sample_mass_low[i], mass.x);
    atomicStore(&sample_mass_high[i], mass.y);
  }
  return sample_result(SampleBest(SAMPLE_ABSENT, 0u), sum);
}

// LIST_DRAW: draws among the tokens of the list that the thresholds leave.
fn sample_list_draw(row: SampleRow, state: SampleState, scale: SampleScale, lane: u32) -> vec4<u32> {
  let farthest = sample_farthest(row);
  let wanted = sample_share(state.total, row.top_p);
  var best = SampleBest(SAMPLE_ABSENT, 0u);
  for (var i = lane; i < state.length; i += SAMPLE_LANES) {
    let count = atomicLoad(&sample_count[i]);
    let mass = vec2<u32>(atomicLoad(&sample_mass_low[i]), atomicLoad(&sample_mass_high[i]));
    let value = sample_value(sample_list_key[i]);
    let left = (row.top_k == 0u || count < row.top_k) && (row.top_p >= 1.0 || sample_less64(mass, wanted)) &&
      (scale.most - value) * scale.inverse_temperature <= farthest;
    if (left || count == 0u) {
      let token = sample_list_token[i];
      let noise = sample_noise(row.seed, row.counter, token / 4u);
      let score = value * scale.inverse_temperature + noise[token % 4u];
      best = sample_better(best, SampleBest(score, token));
    }
  }
  return sample_result(best, vec2<u32>(0u));
}

// RAW: the raw logit that the first stage kept of the drawn token, if it was adjusted. COUNT: adjusted tokens count with
// their raw logits instead (a lane's difference may wrap, the sum does not).
fn sample_adjusted(row_index: u32, row: SampleRow, state: SampleState, passed: vec4<u32>, lane: u32) -> vec4<u32> {
  var mine = passed;
  if (state.phase == SAMPLE_RAW) {
    mine = sample_result(SampleBest(SAMPLE_ABSENT, SAMPLE_NONE), vec2<u32>(0u));
  }
  for (var entry = row.adjust_start + lane; entry < row.adjust_end; entry += SAMPLE_LANES) {
    let token = step_meta[params.adjust + entry * ADJUST_WORDS + ADJUST_TOKEN];
    if (token >= params.vocab) {
      continue;
    }
    let raw = bitcast<f32>(scratch[params.saved + entry]);
    if (state.phase == SAMPLE_COUNT) {
      let adjusted = sample_logit(row_index, token);
      mine.z += select(0u, 1u, raw > state.raw) - select(0u, 1u, adjusted > state.raw);
    } else if (token == state.token) {
      mine = sample_result(SampleBest(raw, token), vec2<u32>(0u));
    }
  }
  return mine;
}

// Decides what follows a phase; `total` is its reduced result.
fn sample_next(row_index: u32, row: SampleRow, state: SampleState, scale: SampleScale, total: vec4<u32>) -> SampleState {
  var next = state;
  let use_top_k = row.top_k > 0u;
  let use_top_p = row.top_p < 1.0;
  let out = row_index * SAMPLED_WORDS;
  var has_token = false; // the token was found in this phase
  var cut = false; // the last token that is left was found in this phase

  switch (state.phase) {
    case SAMPLE_MERGE: {
      next.most = bitcast<f32>(total.x);
      next.token = total.y;
      next.phase = SAMPLE_MERGE_SUMS;
      next.top = SampleBest(-SAMPLE_ABSENT, 0u);
      next.interval = sample_everything();
      has_token = !row.logprobs && (row.mode != SAMPLE_MODE_FILTERED || next.most == SAMPLE_ABSENT);
    }
    case SAMPLE_MERGE_SUMS: {
      next.raw_sum = bitcast<vec2<f32>>(total.xy);
      next.mass = bitcast<f32>(total.w);
      has_token = row.mode != SAMPLE_MODE_FILTERED || state.most == SAMPLE_ABSENT;
      if (use_top_k) {
        next.phase = SAMPLE_QUADS;
      } else {
        // Tokens of probability below (1 - p) / vocab are together less than 1 - p: none of them is needed.
        let least = 0.99 * (1.0 - row.top_p) / f32(params.vocab) * next.mass;
        let needed = u32(-log(clamp(least, 1e-30, 1.0)) * SAMPLE_BINS_PER_UNIT) + 1u;
        next.last_bin = select(SAMPLE_BINS - 1u, min(needed, SAMPLE_BINS - 1u), use_top_p);
      }
    }
    case SAMPLE_QUADS: {
      // Where the count of quads reaches k there are at least k tokens.
      let found = sample_find(0u, vec2<u32>(row.top_k, 0u), 0u, vec2<u32>(0u));
      next.last_bin = min(found.bin, SAMPLE_BINS - 1u);
    }
    case SAMPLE_GATHER: {
      next.total = total.zw;
      next.length = atomicLoad(&sample_list_length);
      next.phase = SAMPLE_RANK;
      if (next.length > SAMPLE_LIST) {
        next.narrow = 1u;
        next.phase = SAMPLE_HISTOGRAM;
        next.by_mass = select(1u, 0u, use_top_k);
        next.wanted = select(sample_share(total.zw, row.top_p), vec2<u32>(row.top_k, 0u), use_top_k);
        sample_cut = SampleCut(0u, SAMPLE_NONE, total.zw);
        if (!use_top_k && !use_top_p) {
          next.phase = SAMPLE_DRAW;
        }
      }
    }
    case SAMPLE_HISTOGRAM: {
      let found = sample_find(state.by_mass, state.wanted, state.before_count, state.before_mass);
      next.before_count = found.count;
      next.before_mass = found.mass;
      // What comes before a bin that was not found is all.
      sample_cut = SampleCut(0u, SAMPLE_NONE, found.mass);
      cut = found.bin == SAMPLE_BINS;
      next.interval = sample_narrow(scale, state.interval, min(found.bin, SAMPLE_BINS - 1u));
      next.last_bin = SAMPLE_BINS - 1u;
      if (found.inside <= SAMPLE_LIST) {
        next.phase = SAMPLE_BORDER;
      }
    }
    case SAMPLE_BORDER: {
      next.length = min(atomicLoad(&sample_list_length), SAMPLE_LIST);
      next.phase = SAMPLE_RANK;
    }
    case SAMPLE_RANK: {
      cut = state.narrow > 0u;
      next.phase = SAMPLE_LIST_DRAW;
      if (use_top_k) {
        next.total = total.zw;
      }
    }
    case SAMPLE_DRAW, SAMPLE_LIST_DRAW: {
      next.token = total.y;
      has_token = true;
    }
    case SAMPLE_RAW: {
      next.raw = bitcast<f32>(total.x);
      if (total.y != state.token) {
        next.raw = sample_logit(row_index, state.token);
      }
      next.phase = select(SAMPLE_TOP, SAMPLE_COUNT, next.raw < state.raw_sum.x);
    }
    case SAMPLE_COUNT: {
      next.rank = total.z;
      next.phase = SAMPLE_TOP;
    }
    default: { // SAMPLE_TOP
      next.top = SampleBest(bitcast<f32>(total.x), total.y);
      next.tops = state.tops + 1u;
      sampled[out + SAMPLED_TOP_TOKENS + state.tops] = total.y;
      sampled[out + SAMPLED_TOP_LOGPROBS + state.tops] = bitcast<u32>(sample_logprob(next.top.score, state.raw_sum));
    }
  }

  if (state.phase == SAMPLE_QUADS || (state.phase == SAMPLE_MERGE_SUMS && !use_top_k)) {
    next.phase = SAMPLE_GATHER;
    if (!(use_top_k && use_top_p)) {
      next.last_bin = min(next.last_bin, u32(min(sample_farthest(row), 100.0) * SAMPLE_BINS_PER_UNIT) + 1u);
    }
  }
  if (cut) {
    next.phase = SAMPLE_DRAW;
    next.interval = sample_everything();
    if (state.by_mass == 0u && use_top_p) {
      next.phase = SAMPLE_HISTOGRAM;
      next.by_mass = 1u;
      next.wanted = sample_share(sample_cut.mass, row.top_p);
      next.before_count = 0u;
      next.before_mass = vec2<u32>(0u);
    }
  }
  if (has_token) {
    next.phase = select(SAMPLE_DONE, SAMPLE_RAW, row.logprobs);
  }
  if (next.phase == SAMPLE_TOP && next.tops >= row.top_logprobs) {
    next.phase = SAMPLE_DONE;
  }
  if (next.phase == SAMPLE_GATHER || next.phase == SAMPLE_BORDER) {
    atomicStore(&sample_list_length, 0u);
  }
  if (next.phase == SAMPLE_DONE) {
    sampled[out + SAMPLED_TOKEN] = next.token;
    sampled[out + SAMPLED_LOGPROB] = select(0u, bitcast<u32>(sample_logprob(next.raw, next.raw_sum)), row.logprobs);
    sampled[out + SAMPLED_RANK] = next.rank;
    sampled[out + SAMPLED_TOP_COUNT] = row.top_logprobs;
  }
  return next;
}

// Log-softmax from (largest, sum of exp(logit - largest)).
fn sample_logprob(raw: f32, sum: vec2<f32>) -> f32 {
  let value = max((raw - sum.x) - log(max(sum.y, 1.0)), -SAMPLE_LIMIT);
  return select(value, -SAMPLE_LIMIT, sum.x <= -SAMPLE_LIMIT);
}

#include "lib/main.wgsl"
