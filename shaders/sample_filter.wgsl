// Thresholds of sampling for one row, without a sort: what shaders/sample_row.wgsl needs to find which tokens top-k,
// top-p and min-p leave.
//
// Tokens are ordered by (logit descending, id ascending). Distances below are (largest logit - logit) / temperature;
// tokens from distance 32 on are left out everywhere, as their noise could never make them win. Probability masses are
// integers in units of 2^-32 of the most likely token's, summed in 64 bits: no sum depends on its order.

const SAMPLE_BINS = 512u;
const SAMPLE_BINS_PER_UNIT = 16.0; // of distance
const SAMPLE_LIST = 384u; // at most SAMPLE_BINS; at least vocabulary / SAMPLE_BINS saves passes when all logits are equal
const SAMPLE_SEGMENTS = 32u;
const SAMPLE_SEGMENT = SAMPLE_BINS / SAMPLE_SEGMENTS;

// Histograms.
var<workgroup> sample_count: array<atomic<u32>, SAMPLE_BINS>;
var<workgroup> sample_mass_low: array<atomic<u32>, SAMPLE_BINS>;
var<workgroup> sample_mass_high: array<atomic<u32>, SAMPLE_BINS>;
var<workgroup> sample_segment: array<vec3<u32>, SAMPLE_SEGMENTS>;
var<workgroup> sample_list_key: array<u32, SAMPLE_LIST>;
var<workgroup> sample_list_token: array<u32, SAMPLE_LIST>;
var<workgroup> sample_list_mass: array<u32, SAMPLE_LIST>;
var<workgroup> sample_list_length: atomic<u32>;

// First bin at which the running count or mass reaches a target.
struct SampleFound {
  bin: u32, // SAMPLE_BINS when none does
  inside: u32, // tokens in the bin
  count: u32, // before the bin
  mass: vec2<u32>,
}

// A row's largest logit and how its distances are measured.
struct SampleScale {
  most: f32,
  inverse_temperature: f32,
  bins: f32, // bins per unit of logit
}

// Tokens whose key and id lie in closed ranges, cut into SAMPLE_BINS bins by distance, key or id.
struct SampleInterval {
  by: u32,
  key_low: u32,
  key_high: u32,
  token_low: u32,
  token_high: u32,
  width: u32, // of a bin
}
const SAMPLE_BY_DISTANCE = 0u;
const SAMPLE_BY_KEY = 1u;
const SAMPLE_BY_TOKEN = 2u;

// Order-preserving integer of a float.
fn sample_key(value: f32) -> u32 {
  let bits = select(bitcast<u32>(value), 0u, value == 0.0); // -0 = 0
  return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}

fn sample_value(key: u32) -> f32 {
  return bitcast<f32>(select(~key, key & 0x7fffffffu, key >= 0x80000000u));
}

fn sample_distance_bin(scale: SampleScale, value: f32) -> u32 {
  return u32(clamp((scale.most - value) * scale.bins, 0.0, f32(SAMPLE_BINS)));
}

fn sample_mass(scale: SampleScale, value: f32) -> u32 {
  let distance = clamp((scale.most - value) * scale.inverse_temperature, 0.0, 100.0);
  return u32(exp(-distance) * 4294967040.0 + 0.5);
}

// Bin of a token, SAMPLE_BINS when it is outside.
fn sample_bin(scale: SampleScale, interval: SampleInterval, value: f32, token: u32) -> u32 {
  let key = sample_key(value);
  var offset = sample_distance_bin(scale, value);
  if (interval.by == SAMPLE_BY_KEY) {
    offset = interval.key_high - key;
  } else if (interval.by == SAMPLE_BY_TOKEN) {
    offset = token - interval.token_low;
  }
  let outside = key < interval.key_low || key > interval.key_high || token < interval.token_low ||
    token > interval.token_high;
  return select(offset / interval.width, SAMPLE_BINS, outside);
}

fn sample_everything() -> SampleInterval {
  return SampleInterval(SAMPLE_BY_DISTANCE, 0u, SAMPLE_NONE, 0u, params.vocab - 1u, 1u);
}

// Where the running count (by_mass 0) or mass (1) of the histogram reaches `wanted`, with what came before its first
// bin. One invocation does it; sample_segment holds the sums of SAMPLE_SEGMENT bins each.
fn sample_find(by_mass: u32, wanted: vec2<u32>, count_before: u32, mass_before: vec2<u32>) -> SampleFound {
  var found = SampleFound(SAMPLE_BINS, 0u, count_before, mass_before);
  var at = 0u; // segments up to SAMPLE_SEGMENTS, then bins of the one that was found
  var end = SAMPLE_SEGMENTS;
  var in_segments = true;
  while (at < end) {
    var next = sample_segment[min(at, SAMPLE_SEGMENTS - 1u)];
    if (!in_segments) {
      next = vec3<u32>(atomicLoad(&sample_count[at]), atomicLoad(&sample_mass_low[at]), atomicLoad(&sample_mass_high[at]));
    }
    let count = found.count + next.x;
    let mass = sample_add64(found.mass, next.yz);
    if (!sample_less64(select(vec2<u32>(count, 0u), mass, by_mass > 0u), wanted)) {
      if (!in_segments) {
        found.bin = at;
        found.inside = next.x;
        break;
      }
      in_segments = false;
      at *= SAMPLE_SEGMENT;
      end = at + SAMPLE_SEGMENT;
      continue;
    }
    found.count = count;
    found.mass = mass;
    at++;
  }
  return found;
}

// share * total: at least 1, so that the first token always stays, and at most the total.
fn sample_share(total: vec2<u32>, share: f32) -> vec2<u32> {
  let wanted = (f32(total.y) * 4294967296.0 + f32(total.x)) * clamp(share, 0.0, 1.0);
  let high = floor(wanted * 2.3283064365386963e-10);
  let low = u32(wanted - high * 4294967296.0);
  let result = vec2<u32>(select(low, max(low, 1u), high == 0.0), u32(high));
  return select(result, total, sample_less64(total, result));
}

// The part of the interval that falls into a bin, with new bins: by key while several keys are left, then by id.
fn sample_narrow(scale: SampleScale, outer: SampleInterval, bin: u32) -> SampleInterval {
  var interval = outer;
  if (outer.by == SAMPLE_BY_TOKEN) {
    interval.token_low = outer.token_low + bin * outer.width;
    interval.token_high = min(outer.token_high, interval.token_low + outer.width - 1u);
  } else {
    if (outer.by == SAMPLE_BY_KEY) {
      interval.key_high = outer.key_high - bin * outer.width;
      interval.key_low = max(outer.key_low, interval.key_high - min(interval.key_high, outer.width - 1u));
    } else {
      interval.key_low = sample_lowest_key(scale, bin);
      if (bin > 0u) {
        interval.key_high = sample_lowest_key(scale, bin - 1u) - 1u;
      }
    }
    interval.by = SAMPLE_BY_KEY;
    interval.width = (interval.key_high - interval.key_low) / SAMPLE_BINS + 1u;
  }
  if (interval.key_low == interval.key_high) {
    interval.by = SAMPLE_BY_TOKEN;
    interval.width = (interval.token_high - interval.token_low) / SAMPLE_BINS + 1u;
  }
  return interval;
}

// Smallest key whose distance falls into one of the bins 0..bin.
fn sample_lowest_key(scale: SampleScale, bin: u32) -> u32 {
  var low = sample_key(-SAMPLE_LIMIT);
  var high = sample_key(scale.most); // always in bin 0
  while (low < high) {
    let middle = low + (high - low) / 2u;
    if (sample_distance_bin(scale, sample_value(middle)) <= bin) {
      high = middle;
    } else {
      low = middle + 1u;
    }
  }
  return low;
}
