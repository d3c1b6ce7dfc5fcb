// Thresholds of sampling for one row, without a sort: which tokens top-k, top-p and min-p leave, and the draw.
//
// Tokens are ordered by (logit descending, id ascending). Distances below are (largest logit - logit) / temperature;
// tokens from distance 32 on are left out everywhere, as their noise could never make them win. Probability masses are
// integers in units of 2^-32 of the most likely token's, summed in 64 bits: no sum depends on its order.
//
// Usual case: the tokens that can be left are few (SAMPLE_LIST). One pass finds a bound for their distance, one pass
// gathers them, and each is ranked against all others. Otherwise the border is narrowed by histograms, first over
// distance, then over the order-preserving integer key of the float, then over token ids, until few are inside.

const SAMPLE_BINS = 512u;
const SAMPLE_BINS_PER_UNIT = 16.0; // of distance
const SAMPLE_LIST = 512u; // at most SAMPLE_BINS
const SAMPLE_SEGMENTS = 32u;
const SAMPLE_SEGMENT = SAMPLE_BINS / SAMPLE_SEGMENTS;

// Histograms; while a list is ranked: what comes before each of its tokens.
var<workgroup> sample_count: array<atomic<u32>, SAMPLE_BINS>;
var<workgroup> sample_mass_low: array<atomic<u32>, SAMPLE_BINS>;
var<workgroup> sample_mass_high: array<atomic<u32>, SAMPLE_BINS>;
var<workgroup> sample_segment: array<vec3<u32>, SAMPLE_SEGMENTS>;
var<workgroup> sample_list_key: array<u32, SAMPLE_LIST>;
var<workgroup> sample_list_token: array<u32, SAMPLE_LIST>;
var<workgroup> sample_list_length: atomic<u32>;
var<workgroup> sample_list_total: u32;
var<workgroup> sample_found: SampleFound;
var<workgroup> sample_cut: SampleCut;

// First bin at which the running count or mass reaches a target.
struct SampleFound {
  bin: u32, // SAMPLE_BINS when none does
  inside: u32, // tokens in the bin
  count: u32, // before the bin
  mass: vec2<u32>,
}

// The last token that is left, and the mass up to it, itself included.
struct SampleCut {
  key: u32,
  token: u32,
  mass: vec2<u32>,
}

// A row's largest logit and how its distances are measured.
struct SampleScale {
  row: u32,
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
  if (interval.by == SAMPLE_BY_DISTANCE) {
    return sample_distance_bin(scale, value);
  }
  let key = sample_key(value);
  if (key < interval.key_low || key > interval.key_high) {
    return SAMPLE_BINS;
  }
  if (interval.by == SAMPLE_BY_KEY) {
    return (interval.key_high - key) / interval.width;
  }
  if (token < interval.token_low || token > interval.token_high) {
    return SAMPLE_BINS;
  }
  return (token - interval.token_low) / interval.width;
}

fn sample_clear(lane: u32) {
  for (var bin = lane; bin < SAMPLE_BINS; bin += SAMPLE_LANES) {
    atomicStore(&sample_count[bin], 0u);
    atomicStore(&sample_mass_low[bin], 0u);
    atomicStore(&sample_mass_high[bin], 0u);
  }
  workgroupBarrier();
}

fn sample_histogram(scale: SampleScale, interval: SampleInterval, masses: bool, lane: u32) {
  sample_clear(lane);
  for (var token = lane * 4u; token < params.vocab; token += SAMPLE_LANES * 4u) {
    let values = sample_row_load(scale.row, token);
    if (sample_distance_bin(scale, sample_max4(values)) >= SAMPLE_BINS) {
      continue;
    }
    for (var j = 0u; j < 4u; j++) {
      let bin = sample_bin(scale, interval, values[j], token + j);
      if (bin < SAMPLE_BINS) {
        atomicAdd(&sample_count[bin], 1u);
        if (masses) {
          let mass = sample_mass(scale, values[j]);
          if (atomicAdd(&sample_mass_low[bin], mass) > 0xffffffffu - mass) {
            atomicAdd(&sample_mass_high[bin], 1u);
          }
        }
      }
    }
  }
}

// Histogram over distances of the largest of each four tokens. Where its running count reaches k there are at least k
// tokens: a bound for top-k at a quarter of the updates.
fn sample_histogram_of_quads(scale: SampleScale, lane: u32) {
  sample_clear(lane);
  for (var token = lane * 4u; token < params.vocab; token += SAMPLE_LANES * 4u) {
    let bin = sample_distance_bin(scale, sample_max4(sample_row_load(scale.row, token)));
    if (bin < SAMPLE_BINS) {
      atomicAdd(&sample_count[bin], 1u);
    }
  }
}

fn sample_find(by_mass: bool, wanted: vec2<u32>, count_before: u32, mass_before: vec2<u32>, lane: u32) -> SampleFound {
  workgroupBarrier();
  for (var segment = lane; segment < SAMPLE_SEGMENTS; segment += SAMPLE_LANES) {
    var count = 0u;
    var mass = vec2<u32>(0u);
    for (var bin = segment * SAMPLE_SEGMENT; bin < (segment + 1u) * SAMPLE_SEGMENT; bin++) {
      count += atomicLoad(&sample_count[bin]);
      mass = sample_add64(mass, vec2<u32>(atomicLoad(&sample_mass_low[bin]), atomicLoad(&sample_mass_high[bin])));
    }
    sample_segment[segment] = vec3<u32>(count, mass);
  }
  workgroupBarrier();
  if (lane == 0u) {
    var found = SampleFound(SAMPLE_BINS, 0u, count_before, mass_before);
    var segment = 0u;
    for (; segment < SAMPLE_SEGMENTS; segment++) {
      let count = found.count + sample_segment[segment].x;
      let mass = sample_add64(found.mass, sample_segment[segment].yz);
      if (!sample_less64(select(vec2<u32>(count, 0u), mass, by_mass), wanted)) {
        break;
      }
      found.count = count;
      found.mass = mass;
    }
    if (segment < SAMPLE_SEGMENTS) {
      for (var bin = segment * SAMPLE_SEGMENT; bin < (segment + 1u) * SAMPLE_SEGMENT; bin++) {
        let inside = atomicLoad(&sample_count[bin]);
        let bin_mass = vec2<u32>(atomicLoad(&sample_mass_low[bin]), atomicLoad(&sample_mass_high[bin]));
        let count = found.count + inside;
        let mass = sample_add64(found.mass, bin_mass);
        if (!sample_less64(select(vec2<u32>(count, 0u), mass, by_mass), wanted)) {
          found.bin = bin;
          found.inside = inside;
          break;
        }
        found.count = count;
        found.mass = mass;
      }
    }
    sample_found = found;
  }
  return workgroupUniformLoad(&sample_found);
}

// Gathers the tokens in bins up to last_bin into the list. Result: how many there are (only SAMPLE_LIST of them are in
// the list), and, when asked, the mass of all tokens.
fn sample_gather(scale: SampleScale, interval: SampleInterval, last_bin: u32, masses: bool, lane: u32) -> vec2<u32> {
  if (lane == 0u) {
    atomicStore(&sample_list_length, 0u);
  }
  workgroupBarrier();
  var total = vec2<u32>(0u);
  for (var token = lane * 4u; token < params.vocab; token += SAMPLE_LANES * 4u) {
    let values = sample_row_load(scale.row, token);
    let nearest = sample_distance_bin(scale, sample_max4(values));
    if (masses && nearest < SAMPLE_BINS) {
      for (var j = 0u; j < 4u; j++) {
        total = sample_add64(total, vec2<u32>(sample_mass(scale, values[j]), 0u));
      }
    }
    if (nearest >= SAMPLE_BINS || (interval.by == SAMPLE_BY_DISTANCE && nearest > last_bin)) {
      continue;
    }
    for (var j = 0u; j < 4u; j++) {
      if (sample_bin(scale, interval, values[j], token + j) <= last_bin) {
        let at = atomicAdd(&sample_list_length, 1u);
        if (at < SAMPLE_LIST) {
          sample_list_key[at] = sample_key(values[j]);
          sample_list_token[at] = token + j;
        }
      }
    }
  }
  workgroupBarrier();
  if (lane == 0u) {
    sample_list_total = atomicLoad(&sample_list_length);
  }
  return total;
}

// Stores for each token of the list how many tokens, and what mass, come before it.
fn sample_rank(scale: SampleScale, length: u32, count_before: u32, mass_before: vec2<u32>, masses: bool, lane: u32) {
  for (var i = lane; i < length; i += SAMPLE_LANES) {
    let key = sample_list_key[i];
    let token = sample_list_token[i];
    var count = count_before;
    var mass = mass_before;
    for (var j = 0u; j < length; j++) {
      let other = sample_list_key[j];
      if (other > key || (other == key && sample_list_token[j] < token)) {
        count++;
        if (masses) {
          mass = sample_add64(mass, vec2<u32>(sample_mass(scale, sample_value(other)), 0u));
        }
      }
    }
    atomicStore(&sample_count[i], count);
    atomicStore(&sample_mass_low[i], mass.x);
    atomicStore(&sample_mass_high[i], mass.y);
  }
  workgroupBarrier();
}

fn sample_list_mass(i: u32) -> vec2<u32> {
  return vec2<u32>(atomicLoad(&sample_mass_low[i]), atomicLoad(&sample_mass_high[i]));
}

// share * total, at least 1 so that the first token always stays.
fn sample_share(total: vec2<u32>, share: f32) -> vec2<u32> {
  let wanted = (f32(total.y) * 4294967296.0 + f32(total.x)) * clamp(share, 0.0, 1.0);
  let high = floor(wanted * 2.3283064365386963e-10);
  return max(vec2<u32>(u32(wanted - high * 4294967296.0), u32(high)), vec2<u32>(select(1u, 0u, high > 0.0), 0u));
}

// Token drawn from the row among those that its thresholds leave. `mass` is about the sum of exp(-distance).
fn sample_filtered(row: SampleRow, scale: SampleScale, mass: f32, lane: u32) -> u32 {
  let use_top_k = row.top_k > 0u;
  let use_top_p = row.top_p < 1.0;
  let farthest = select(f32(SAMPLE_BINS), max(-log(row.min_p), 0.0), row.min_p > 0.0);
  let all = SampleInterval(SAMPLE_BY_DISTANCE, 0u, SAMPLE_NONE, 0u, SAMPLE_NONE, 1u);

  var last_bin = SAMPLE_BINS - 1u;
  if (use_top_k) {
    sample_histogram_of_quads(scale, lane);
    last_bin = min(last_bin, sample_find(false, vec2<u32>(row.top_k, 0u), 0u, vec2<u32>(0u), lane).bin);
  } else if (use_top_p) {
    // Tokens of probability below (1 - p) / vocab are together less than 1 - p: none of them is needed.
    let least = 0.99 * (1.0 - row.top_p) / f32(params.vocab) * mass;
    last_bin = min(last_bin, u32(max(-log(max(least, 1e-30)), 0.0) * SAMPLE_BINS_PER_UNIT) + 1u);
  }
  if (!(use_top_k && use_top_p)) {
    last_bin = min(last_bin, u32(min(farthest, 100.0) * SAMPLE_BINS_PER_UNIT) + 1u);
  }
  var total = sample_gather(scale, all, last_bin, use_top_p && !use_top_k, lane);
  if (use_top_p && !use_top_k) {
    total = sample_reduce_u64(lane, total);
  }
  let length = workgroupUniformLoad(&sample_list_total);

  var best = SampleBest(SAMPLE_ABSENT, 0u);
  if (length <= SAMPLE_LIST) {
    sample_rank(scale, length, 0u, vec2<u32>(0u), use_top_p, lane);
    if (use_top_k && use_top_p) {
      total = vec2<u32>(0u);
      for (var i = lane; i < length; i += SAMPLE_LANES) {
        if (atomicLoad(&sample_count[i]) < row.top_k) {
          total = sample_add64(total, vec2<u32>(sample_mass(scale, sample_value(sample_list_key[i])), 0u));
        }
      }
      total = sample_reduce_u64(lane, total);
    }
    let wanted = sample_share(total, row.top_p);
    for (var i = lane; i < length; i += SAMPLE_LANES) {
      let before = atomicLoad(&sample_count[i]);
      let value = sample_value(sample_list_key[i]);
      let left = (!use_top_k || before < row.top_k) && (!use_top_p || sample_less64(sample_list_mass(i), wanted)) &&
        (scale.most - value) * row.inverse_temperature <= farthest;
      if (left || before == 0u) {
        let token = sample_list_token[i];
        let noise = sample_noise(row.seed, row.counter, token / 4u);
        best = sample_better(best, SampleBest(value * row.inverse_temperature + noise[token % 4u], token));
      }
    }
    return sample_reduce_best(lane, best).token;
  }

  var cut = SampleCut(0u, SAMPLE_NONE, total);
  if (use_top_k) {
    cut = sample_resolve(scale, false, vec2<u32>(row.top_k, 0u), use_top_p, lane);
  }
  if (use_top_p) {
    cut = sample_resolve(scale, true, sample_share(cut.mass, row.top_p), true, lane);
  }
  for (var token = lane * 4u; token < params.vocab; token += SAMPLE_LANES * 4u) {
    let values = sample_row_load(scale.row, token);
    let nearest = sample_max4(values);
    if (sample_distance_bin(scale, nearest) >= SAMPLE_BINS || sample_key(nearest) < cut.key) {
      continue;
    }
    let noisy = values * row.inverse_temperature + sample_noise(row.seed, row.counter, token / 4u);
    for (var j = 0u; j < 4u; j++) {
      let key = sample_key(values[j]);
      let left = (key > cut.key || (key == cut.key && token + j <= cut.token)) &&
        (scale.most - values[j]) * row.inverse_temperature <= farthest;
      if (left && sample_distance_bin(scale, values[j]) < SAMPLE_BINS) {
        best = sample_better(best, SampleBest(noisy[j], token + j));
      }
    }
  }
  return sample_reduce_best(lane, best).token;
}

// Finds the token at which the running count or mass over all tokens, in order, reaches `wanted`; the last one when it
// does not.
fn sample_resolve(scale: SampleScale, by_mass: bool, wanted: vec2<u32>, masses: bool, lane: u32) -> SampleCut {
  var interval = SampleInterval(SAMPLE_BY_DISTANCE, 0u, SAMPLE_NONE, 0u, params.vocab - 1u, 1u);
  sample_histogram(scale, interval, masses, lane);
  var found = sample_find(by_mass, wanted, 0u, vec2<u32>(0u), lane);
  if (lane == 0u) {
    // Nothing before a bin that was not found is the mass of all.
    sample_cut = SampleCut(0u, SAMPLE_NONE, found.mass);
  }
  if (found.bin < SAMPLE_BINS) {
    interval.by = SAMPLE_BY_KEY;
    interval.key_low = sample_lowest_key(scale, found.bin);
    if (found.bin > 0u) {
      interval.key_high = sample_lowest_key(scale, found.bin - 1u) - 1u;
    }
    interval.width = (interval.key_high - interval.key_low) / SAMPLE_BINS + 1u;
    while (found.inside > SAMPLE_LIST) {
      sample_histogram(scale, interval, masses, lane);
      found = sample_find(by_mass, wanted, found.count, found.mass, lane);
      interval = sample_narrow(interval, found.bin);
    }
    sample_gather(scale, interval, SAMPLE_BINS - 1u, false, lane);
    let length = min(workgroupUniformLoad(&sample_list_total), SAMPLE_LIST);
    sample_rank(scale, length, found.count, found.mass, masses, lane);
    for (var i = lane; i < length; i += SAMPLE_LANES) {
      let key = sample_list_key[i];
      let count = atomicLoad(&sample_count[i]);
      let mass = sample_list_mass(i);
      let mass_with = sample_add64(mass, vec2<u32>(sample_mass(scale, sample_value(key)), 0u));
      let before = select(vec2<u32>(count, 0u), mass, by_mass);
      let with_it = select(vec2<u32>(count + 1u, 0u), mass_with, by_mass);
      if (sample_less64(before, wanted) && !sample_less64(with_it, wanted)) {
        sample_cut = SampleCut(key, sample_list_token[i], mass_with);
      }
    }
  }
  return workgroupUniformLoad(&sample_cut);
}

// The part of the interval that falls into a bin, with new bins: by key while several keys are left, then by id.
fn sample_narrow(outer: SampleInterval, bin: u32) -> SampleInterval {
  var interval = outer;
  if (outer.by == SAMPLE_BY_KEY) {
    interval.key_high = outer.key_high - bin * outer.width;
    interval.key_low = max(outer.key_low, interval.key_high - min(interval.key_high, outer.width - 1u));
    interval.width = (interval.key_high - interval.key_low) / SAMPLE_BINS + 1u;
    if (interval.key_low == interval.key_high) {
      interval.by = SAMPLE_BY_TOKEN;
      interval.width = (interval.token_high - interval.token_low) / SAMPLE_BINS + 1u;
    }
  } else {
    interval.token_low = outer.token_low + bin * outer.width;
    interval.token_high = min(outer.token_high, interval.token_low + outer.width - 1u);
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
