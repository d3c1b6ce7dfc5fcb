// What both stages of sampling share: the parameters of a row, clean logits, and reductions over the workgroup.
#include "lib/meta.wgsl"
#include "sample_random.wgsl"

// Logits are clamped to +-LIMIT; NaN and -inf become -LIMIT, which forbids a token. No infinities in arithmetic:
// shader compilers may assume that there are none.
const SAMPLE_LIMIT = 1e30;
const SAMPLE_ABSENT = -3e30; // score of no token at all
const SAMPLE_NONE = 0xffffffffu; // no token id
const SAMPLE_NOISE_MOST = 23.0; // no noise is larger

const SAMPLE_MODE_GREEDY = 0u;
const SAMPLE_MODE_PLAIN = 1u; // any token may be drawn
const SAMPLE_MODE_FILTERED = 2u; // top-k, top-p or min-p

// Words of a chunk's partial result in the scratch buffer.
const SAMPLE_PARTIAL_SCORE = 0u; // best score and its token; SAMPLE_ABSENT, 0 when all are forbidden
const SAMPLE_PARTIAL_TOKEN = 1u;
const SAMPLE_PARTIAL_RAW_MAX = 2u; // of the raw logits: largest, sum of exp(logit - largest)
const SAMPLE_PARTIAL_RAW_SUM = 3u;
const SAMPLE_PARTIAL_MASS = 4u; // filtered rows: sum of exp((logit - largest) / temperature) of the adjusted logits
const SAMPLE_PARTIAL_WORDS = 8u;
const SAMPLE_TOP_WORDS = 40u; // per chunk: 20 tokens, 20 raw logits, best first

struct Params {
  vocab: u32,
  chunks: u32, // of a row
  chunk: u32, // tokens of a chunk, a multiple of 4
  row_capacity: u32,
  sampling: u32, // first words of sections of the metadata
  adjust: u32,
  top: u32, // first words of parts of the scratch: chunks' best tokens,
  saved: u32, // and raw logits of adjusted tokens, one for each entry of the adjust section
  half_lanes: u32, // of a workgroup
}
@group(0) @binding(0) var<uniform> params: Params;

struct SampleRow {
  mode: u32,
  inverse_temperature: f32,
  top_k: u32, // 0 = off
  top_p: f32, // 1 = off
  min_p: f32, // 0 = off
  seed: vec2<u32>,
  counter: u32,
  logprobs: bool,
  top_logprobs: u32,
  adjust_start: u32,
  adjust_end: u32,
}

fn sample_row_parameters(row: u32) -> SampleRow {
  let at = params.sampling + row * SAMPLE_WORDS;
  let temperature = bitcast<f32>(step_meta[at + SAMPLE_TEMPERATURE]);
  let wanted = step_meta[at + SAMPLE_TOP_LOGPROBS];
  var result: SampleRow;
  result.inverse_temperature = 1.0 / max(temperature, 1e-6);
  let top_k = step_meta[at + SAMPLE_TOP_K];
  result.top_k = select(0u, top_k, top_k < params.vocab);
  result.top_p = bitcast<f32>(step_meta[at + SAMPLE_TOP_P]);
  result.min_p = bitcast<f32>(step_meta[at + SAMPLE_MIN_P]);
  let filtered = result.top_k > 0u || result.top_p < 1.0 || result.min_p > 0.0;
  let drawn = select(SAMPLE_MODE_PLAIN, SAMPLE_MODE_FILTERED, filtered);
  result.mode = select(SAMPLE_MODE_GREEDY, drawn, temperature > 0.0);
  result.seed = vec2<u32>(step_meta[at + SAMPLE_SEED_LOW], step_meta[at + SAMPLE_SEED_HIGH]);
  result.counter = step_meta[at + SAMPLE_COUNTER];
  result.logprobs = wanted != LOGPROBS_OFF;
  result.top_logprobs = select(0u, min(min(wanted, MAX_TOP_LOGPROBS), params.vocab), result.logprobs);
  result.adjust_start = step_meta[at + SAMPLE_ADJUST_START];
  result.adjust_end = step_meta[at + SAMPLE_ADJUST_END];
  return result;
}

fn sample_clean(logit: f32) -> f32 {
  // By its bits, as comparisons with NaN may be optimised away.
  let nan = (bitcast<u32>(logit) & 0x7fffffffu) > 0x7f800000u;
  return select(clamp(logit, -SAMPLE_LIMIT, SAMPLE_LIMIT), -SAMPLE_LIMIT, nan);
}

fn sample_clean4(logits: vec4<f32>) -> vec4<f32> {
  let nan = (bitcast<vec4<u32>>(logits) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
  let clamped = clamp(logits, vec4<f32>(-SAMPLE_LIMIT), vec4<f32>(SAMPLE_LIMIT));
  return select(clamped, vec4<f32>(-SAMPLE_LIMIT), nan);
}

fn sample_max4(v: vec4<f32>) -> f32 {
  return max(max(v.x, v.y), max(v.z, v.w));
}

struct SampleBest {
  score: f32,
  token: u32,
}

// Ties: the lower token.
fn sample_better(a: SampleBest, b: SampleBest) -> SampleBest {
  if (b.score > a.score || (b.score == a.score && b.token < a.token)) {
    return b;
  }
  return a;
}

fn sample_better4(best: SampleBest, scores: vec4<f32>, token: u32) -> SampleBest {
  var result = best;
  if (sample_max4(scores) >= best.score) {
    result = sample_better(result, SampleBest(scores.x, token));
    result = sample_better(result, SampleBest(scores.y, token + 1u));
    result = sample_better(result, SampleBest(scores.z, token + 2u));
    result = sample_better(result, SampleBest(scores.w, token + 3u));
  }
  return result;
}

// Reduction over the workgroup: every invocation gets the result. Its order is fixed, so equal rows give equal bits
// wherever they run. Two kinds of values share the code (software adapters compile each copy of it for long):
// (score, token, 64-bit sum) gives the best token and the total; two (max, sum of exp((x - max) * scale)) are joined.
const SAMPLE_LANES = {{WORKGROUP_SIZE}}u;
var<workgroup> sample_shared: array<vec4<u32>, {{WORKGROUP_SIZE}}>;

fn sample_reduce(lane: u32, mine: vec4<u32>, log_sums: bool, scales: vec2<f32>) -> vec4<u32> {
  var total = mine;
  sample_shared[lane] = total;
  workgroupBarrier();
  for (var width = params.half_lanes; width > 0u; width /= 2u) {
    if (lane < width) {
      total = sample_combine(total, sample_shared[lane + width], log_sums, scales);
      sample_shared[lane] = total;
    }
    workgroupBarrier();
  }
  let result = sample_shared[0];
  workgroupBarrier();
  return result;
}

fn sample_combine(a: vec4<u32>, b: vec4<u32>, log_sums: bool, scales: vec2<f32>) -> vec4<u32> {
  if (log_sums) {
    let x = bitcast<vec4<f32>>(a);
    let y = bitcast<vec4<f32>>(b);
    let most = max(x.xz, y.xz);
    let sums = x.yw * sample_exp(x.xz, most, scales) + y.yw * sample_exp(y.xz, most, scales);
    return bitcast<vec4<u32>>(vec4<f32>(most.x, sums.x, most.y, sums.y));
  }
  let best = sample_better(SampleBest(bitcast<f32>(a.x), a.y), SampleBest(bitcast<f32>(b.x), b.y));
  return vec4<u32>(bitcast<u32>(best.score), best.token, sample_add64(a.zw, b.zw));
}

// exp((x - most) * scale) without infinities.
fn sample_exp(x: vec2<f32>, most: vec2<f32>, scales: vec2<f32>) -> vec2<f32> {
  return exp(max((x - most) * scales, vec2<f32>(-100.0)));
}

// 64-bit integers, low word first.
fn sample_add64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let low = a.x + b.x;
  return vec2<u32>(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn sample_less64(a: vec2<u32>, b: vec2<u32>) -> bool {
  return a.y < b.y || (a.y == b.y && a.x < b.x);
}
