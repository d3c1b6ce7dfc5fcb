// Second stage of sampling, one workgroup for each row: joins the chunks' results, draws where thresholds need the
// whole row, and looks up log-probabilities, rank and best tokens of the raw logits.
//
// A row goes through phases: each is a piece of parallel work, a reduction, and a decision of invocation 0 about the
// next phase. justify: one loop, so one file. (One loop with one place for each kind of access, because what a software adapter compiles grows with
// the number of loads, atomics and barriers in the text.)
//
//   MERGE, MERGE_SUMS             chunks' results; rows without thresholds have their token now
//   QUADS                         a bound for top-k
//   GATHER                        a list of the tokens that can be left; usually it holds them all, and the phases
//                                 below look at the list alone instead of the row
//   HISTOGRAM.., BORDER, RANK     finds the last token that is left, once for top-k, once for top-p (BORDER gathers
//                                 the tokens around it when the list is not complete; a short list is only ranked)
//   DRAW                          draws among the tokens up to it
//   RAW, COUNT, TOP               log-probabilities
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
const SAMPLE_RAW = 9u;
const SAMPLE_TOP = 10u;
const SAMPLE_DONE = 11u;

const SAMPLE_SHORT_LIST = 64u; // ranked without a histogram

struct SampleState {
  phase: u32,
  token: u32, // drawn
  raw: f32, // its raw logit
  rank: u32,
  most: f32, // largest adjusted logit
  raw_sum: vec2<f32>, // of the raw logits: largest, sum of exp(logit - largest)
  last_bin: u32, // gathered bins
  length: u32, // of the list
  complete: u32, // the list holds all tokens that can be left
  by_mass: u32, // the border is where the mass, not the count, reaches `wanted`
  wanted: vec2<u32>,
  before_count: u32, // of the interval
  before_mass: vec2<u32>,
  interval: SampleInterval,
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
      sample_rank(state, scale, lane);
    } else if (state.phase == SAMPLE_TOP) {
      sample_top(row_index, row.top_logprobs, state.raw_sum, lane);
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

// MERGE, MERGE_SUMS: the chunks' results.
fn sample_of_chunks(row_index: u32, row: SampleRow, state: SampleState, lane: u32) -> vec4<u32> {
  let sums = state.phase == SAMPLE_MERGE_SUMS;
  var mine = sample_result(SampleBest(SAMPLE_ABSENT, 0u), vec2<u32>(0u));
  if (sums) {
    mine = bitcast<vec4<u32>>(vec4<f32>(SAMPLE_ABSENT, 0.0, SAMPLE_ABSENT, 0.0));
  }
  for (var chunk = lane; chunk < params.chunks; chunk += SAMPLE_LANES) {
    let at = (row_index * params.chunks + chunk) * SAMPLE_PARTIAL_WORDS;
    let score = scratch[at + SAMPLE_PARTIAL_SCORE];
    var other = vec4<u32>(score, scratch[at + SAMPLE_PARTIAL_TOKEN], 0u, 0u);
    if (sums) {
      let raw = vec2<u32>(scratch[at + SAMPLE_PARTIAL_RAW_MAX], scratch[at + SAMPLE_PARTIAL_RAW_SUM]);
      other = vec4<u32>(raw, score, scratch[at + SAMPLE_PARTIAL_MASS]);
    }
    mine = sample_combine(mine, other, sums, vec2<f32>(1.0, row.inverse_temperature));
  }
  return mine;
}

// TOP: writes the best `count` tokens out of the chunks' best; each is put where the number of better ones says.
fn sample_top(row_index: u32, count: u32, raw_sum: vec2<f32>, lane: u32) {
  let total = params.chunks * count;
  for (var i = lane; i < total; i += SAMPLE_LANES) {
    let own = sample_top_at(row_index, count, i);
    var place = 0u;
    for (var j = 0u; j < total && place < count; j++) {
      let other = sample_top_at(row_index, count, j);
      place += select(0u, 1u, other.score > own.score || (other.score == own.score && other.token < own.token));
    }
    if (place < count && own.token != SAMPLE_NONE) {
      let out = row_index * SAMPLED_WORDS + place;
      sampled[out + SAMPLED_TOP_TOKENS] = own.token;
      sampled[out + SAMPLED_TOP_LOGPROBS] = bitcast<u32>(sample_logprob(own.score, raw_sum));
    }
  }
}

// The i-th of the chunks' best tokens, `count` of each chunk; nothing where a chunk has fewer tokens.
fn sample_top_at(row_index: u32, count: u32, i: u32) -> SampleBest {
  let chunk = i / count;
  let place = i % count;
  if (chunk * params.chunk + place >= params.vocab) {
    return SampleBest(SAMPLE_ABSENT, SAMPLE_NONE);
  }
  let word = params.top + (row_index * params.chunks + chunk) * SAMPLE_TOP_WORDS + place;
  return SampleBest(bitcast<f32>(scratch[word + MAX_TOP_LOGPROBS]), scratch[word]);
}

// One pass over the row, or over the list where it is complete.
fn sample_pass(row_index: u32, row: SampleRow, state: SampleState, scale: SampleScale, lane: u32) -> vec4<u32> {
  let masses = row.top_p < 1.0;
  let farthest = sample_farthest(row);
  var best = SampleBest(SAMPLE_ABSENT, 0u);
  var sum = vec2<u32>(0u);
  let listed = state.complete > 0u && state.phase != SAMPLE_COUNT;
  let items = select((params.vocab + 3u) / 4u, state.length, listed);
  for (var item = lane; item < items; item += SAMPLE_LANES) {
    var token = item * 4u;
    var end = token + 4u;
    var values = vec4<f32>(SAMPLE_ABSENT);
    if (listed) {
      token = sample_list_token[item];
      end = token + 1u;
      values.x = sample_value(sample_list_key[item]);
    } else {
      values = sample_row_load(row_index, token);
    }
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
      if (listed) {
        noise.x = noise[token % 4u];
      }
    }
    for (var id = token; id < end; id++) {
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

// RANK: compares the listed tokens of the interval with each other; the one at which count or mass reaches what is
// wanted becomes the cut.
fn sample_rank(state: SampleState, scale: SampleScale, lane: u32) {
  for (var i = lane; i < state.length; i += SAMPLE_LANES) {
    let key = sample_list_key[i];
    let token = sample_list_token[i];
    if (sample_bin(scale, state.interval, sample_value(key), token) >= SAMPLE_BINS) {
      continue;
    }
    var count = state.before_count;
    var mass = state.before_mass;
    for (var j = 0u; j < state.length; j++) {
      let other = sample_list_key[j];
      let other_token = sample_list_token[j];
      // What comes before the interval is in before_count already.
      let inside = other <= state.interval.key_high && other_token >= state.interval.token_low;
      if (inside && (other > key || (other == key && other_token < token))) {
        count++;
        mass = sample_add64(mass, vec2<u32>(sample_list_mass[j], 0u));
      }
    }
    let with_own = sample_add64(mass, vec2<u32>(sample_list_mass[i], 0u));
    let before = select(vec2<u32>(count, 0u), mass, state.by_mass > 0u);
    let with_it = select(vec2<u32>(count + 1u, 0u), with_own, state.by_mass > 0u);
    if (sample_less64(before, state.wanted) && !sample_less64(with_it, state.wanted)) {
      sample_cut = SampleCut(key, token, with_own);
    }
  }
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
  let filtered = row.mode == SAMPLE_MODE_FILTERED;
  var has_token = false; // the token was found in this phase
  var has_cut = false; // the last token that is left was found in this phase
  var search = false; // the next phase starts to look for it

  switch (state.phase) {
    case SAMPLE_MERGE: {
      next.most = bitcast<f32>(total.x);
      next.token = total.y;
      next.phase = SAMPLE_MERGE_SUMS;
      has_token = !row.logprobs && (!filtered || next.most == SAMPLE_ABSENT);
    }
    case SAMPLE_MERGE_SUMS: {
      next.raw_sum = bitcast<vec2<f32>>(total.xy);
      has_token = !filtered || state.most == SAMPLE_ABSENT;
      next.last_bin = SAMPLE_BINS - 1u;
      next.phase = SAMPLE_GATHER;
      if (use_top_k) {
        next.phase = SAMPLE_QUADS;
      } else if (use_top_p) {
        // Tokens of probability below (1 - p) / vocab are together less than 1 - p: none of them is needed.
        let least = 0.99 * (1.0 - row.top_p) / f32(params.vocab) * bitcast<f32>(total.w);
        next.last_bin = u32(-log(clamp(least, 1e-30, 1.0)) * SAMPLE_BINS_PER_UNIT) + 1u;
      }
    }
    case SAMPLE_QUADS: {
      // Where the count of quads reaches k there are at least k tokens.
      next.last_bin = sample_find(0u, vec2<u32>(row.top_k, 0u), 0u, vec2<u32>(0u)).bin;
      next.phase = SAMPLE_GATHER;
    }
    case SAMPLE_GATHER: {
      next.length = atomicLoad(&sample_list_length);
      next.complete = select(0u, 1u, next.length <= SAMPLE_LIST);
      next.by_mass = select(1u, 0u, use_top_k);
      next.wanted = select(sample_share(total.zw, row.top_p), vec2<u32>(row.top_k, 0u), use_top_k);
      next.phase = SAMPLE_DRAW;
      search = use_top_k || use_top_p;
      sample_cut = SampleCut(0u, SAMPLE_NONE, total.zw);
    }
    case SAMPLE_HISTOGRAM: {
      let found = sample_find(state.by_mass, state.wanted, state.before_count, state.before_mass);
      next.before_count = found.count;
      next.before_mass = found.mass;
      has_cut = found.bin == SAMPLE_BINS;
      if (has_cut) {
        sample_cut = SampleCut(0u, SAMPLE_NONE, found.mass); // what comes before a bin that was not found is all
      } else {
        next.interval = sample_narrow(scale, state.interval, found.bin);
      }
      if (state.complete > 0u) {
        next.phase = SAMPLE_RANK;
      } else if (found.inside <= SAMPLE_LIST) {
        next.phase = SAMPLE_BORDER;
      }
    }
    case SAMPLE_BORDER: {
      next.length = min(atomicLoad(&sample_list_length), SAMPLE_LIST);
      next.phase = SAMPLE_RANK;
    }
    case SAMPLE_RANK: {
      has_cut = true;
    }
    case SAMPLE_DRAW: {
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
      next.phase = SAMPLE_DONE;
    }
  }

  if (has_cut) {
    next.phase = SAMPLE_DRAW;
    search = state.by_mass == 0u && use_top_p;
    next.by_mass = 1u;
    next.wanted = sample_share(sample_cut.mass, row.top_p);
  }
  if (search || next.phase == SAMPLE_DRAW) {
    next.interval = sample_everything();
    next.before_count = 0u;
    next.before_mass = vec2<u32>(0u);
  }
  if (search) {
    next.phase = select(SAMPLE_HISTOGRAM, SAMPLE_RANK, next.complete > 0u && next.length <= SAMPLE_SHORT_LIST);
  }
  if (has_token) {
    next.phase = select(SAMPLE_DONE, SAMPLE_RAW, row.logprobs);
  }
  if (next.phase == SAMPLE_GATHER) {
    // With both, the tokens that min-p drops still count for the mass that top-p is a share of.
    let farthest = select(sample_farthest(row), f32(SAMPLE_BINS), use_top_k && use_top_p);
    let needed = u32(min(farthest, 100.0) * SAMPLE_BINS_PER_UNIT) + 1u;
    next.last_bin = min(min(next.last_bin, needed), SAMPLE_BINS - 1u);
    next.interval = sample_everything();
  } else {
    next.last_bin = SAMPLE_BINS - 1u;
  }
  if (next.phase == SAMPLE_GATHER || next.phase == SAMPLE_BORDER) {
    atomicStore(&sample_list_length, 0u);
  }
  if (next.phase == SAMPLE_DONE) {
    let out = row_index * SAMPLED_WORDS;
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
