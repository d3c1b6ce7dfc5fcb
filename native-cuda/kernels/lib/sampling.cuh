// What both stages of sampling share: a row's parameters, clean logits, best tokens, reductions over the CTA.
#pragma once
#include "lib/random.cuh"
#include "lib/vector.cuh"

// Logits are clamped to +-LIMIT; NaN and -inf become -LIMIT, which forbids a token.
#define SAMPLE_LIMIT 1e30f
#define SAMPLE_ABSENT -3e30f // score of no token at all
#define LOGPROBS_OFF 0xffffffffu
#define MAX_TOP_LOGPROBS 20

// As in plan/stepMeta.ts.
enum SampleWord {
  TEMPERATURE, TOP_K, TOP_P, MIN_P, PRESENCE, FREQUENCY, REPETITION, SEED_LOW, SEED_HIGH, COUNTER, TOP_LOGPROBS,
  ADJUST_START, ADJUST_END
};
#define SAMPLE_WORDS 16
enum AdjustWord { ADJUST_TOKEN, ADJUST_OUTPUT_COUNT, ADJUST_IN_PROMPT, ADJUST_BIAS };
#define ADJUST_WORDS 4
enum SampledWord { SAMPLED_TOKEN, SAMPLED_LOGPROB, SAMPLED_RANK, SAMPLED_TOP_COUNT, SAMPLED_TOP_TOKENS };
#define SAMPLED_TOP_LOGPROBS 24
#define SAMPLED_WORDS 44

// Words of a chunk's partial result in the scratch buffer; as sampleScratchBytes() counts them.
enum PartialWord {
  PARTIAL_SCORE, PARTIAL_TOKEN, PARTIAL_RAW_MAX, PARTIAL_RAW_SUM, PARTIAL_MASS, PARTIAL_EXACT_LOW, PARTIAL_EXACT_HIGH
};
#define PARTIAL_WORDS 8
#define TOP_WORDS 40 // per chunk: 20 tokens, 20 raw logits, best first

// A row's candidates of top-k, top-p and min-p. In order: their number; the largest logit of each of GROUPS parts of
// every chunk (top-k looks at them to know how far to go); of every chunk the mass of its tokens that lie less than
// 1, 2, ... MASS_STEPS below its largest, in units of 2^-MASS_BITS of the largest one's (for top-p); then a key and a
// token for each of `capacity` candidates.
#define GROUPS 8
#define MASS_STEPS 12
#define MASS_BITS 18
struct Candidates {
  u32 *words;
  u32 chunks, capacity;
  __device__ __forceinline__ u32 *count() const { return words; }
  __device__ __forceinline__ float *largest() const { return reinterpret_cast<float *>(words + 1); }
  __device__ __forceinline__ u32 *masses(u32 chunk) const { return words + 1 + chunks * GROUPS + chunk * MASS_STEPS; }
  __device__ __forceinline__ u32 *entry(u32 i) const { return words + 1 + chunks * (GROUPS + MASS_STEPS) + 2 * i; }
};
__device__ __forceinline__ Candidates candidatesOf(u32 *scratch, u32 at, u32 row, u32 chunks, u32 capacity) {
  return {scratch + at + u64(row) * (1 + chunks * (GROUPS + MASS_STEPS) + 2 * capacity), chunks, capacity};
}

// What the first stage found of a row: its largest adjusted logit and the sum of exp((logit - largest) / temperature).
// Every warp finds the same.
struct RowSums {
  float most, mass;
};
__device__ __forceinline__ RowSums rowSums(const u32 *partials, u32 chunks, float inverse) {
  const u32 lane = threadIdx.x % 32;
  float most = SAMPLE_ABSENT;
  for (u32 chunk = lane; chunk < chunks; chunk += 32)
    most = fmaxf(most, __uint_as_float(partials[chunk * PARTIAL_WORDS + PARTIAL_SCORE]));
#pragma unroll
  for (int width = 16; width > 0; width /= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, width));
  float mass = 0.0f;
  for (u32 chunk = lane; chunk < chunks; chunk += 32) {
    const u32 *partial = partials + chunk * PARTIAL_WORDS;
    const float distance = fmaxf((__uint_as_float(partial[PARTIAL_SCORE]) - most) * inverse, -100.0f);
    mass += __uint_as_float(partial[PARTIAL_MASS]) * expf(distance);
  }
#pragma unroll
  for (int width = 16; width > 0; width /= 2) mass += __shfl_xor_sync(0xffffffffu, mass, width);
  return {most, mass};
}

enum SampleMode { GREEDY, PLAIN, FILTERED }; // PLAIN: any token may be drawn; FILTERED: top-k, top-p or min-p

struct SampleRow {
  SampleMode mode;
  float inverse; // 1 / temperature
  u32 topK;      // 0 = off
  float topP;    // 1 = off
  float minP;    // 0 = off
  u32 seedLow, seedHigh, counter;
  bool logprobs;
  u32 tops;
  u32 adjustStart, adjustEnd;
};

__device__ __forceinline__ SampleRow sampleRow(const u32 *meta, u32 at, u32 vocab) {
  SampleRow row;
  const float temperature = __uint_as_float(meta[at + TEMPERATURE]);
  const u32 topK = meta[at + TOP_K];
  const u32 wanted = meta[at + TOP_LOGPROBS];
  row.inverse = 1.0f / fmaxf(temperature, 1e-6f);
  row.topK = topK < vocab ? topK : 0;
  row.topP = __uint_as_float(meta[at + TOP_P]);
  row.minP = __uint_as_float(meta[at + MIN_P]);
  const bool filtered = row.topK > 0 || row.topP < 1.0f || row.minP > 0.0f;
  row.mode = temperature > 0.0f ? (filtered ? FILTERED : PLAIN) : GREEDY;
  row.seedLow = meta[at + SEED_LOW];
  row.seedHigh = meta[at + SEED_HIGH];
  row.counter = meta[at + COUNTER];
  row.logprobs = wanted != LOGPROBS_OFF;
  row.tops = row.logprobs ? min(min(wanted, MAX_TOP_LOGPROBS), vocab) : 0;
  row.adjustStart = meta[at + ADJUST_START];
  row.adjustEnd = meta[at + ADJUST_END];
  return row;
}

__device__ __forceinline__ float cleanLogit(float logit) { // fmaxf drops NaN
  return fminf(fmaxf(logit, -SAMPLE_LIMIT), SAMPLE_LIMIT);
}

// Order-preserving integer of a float, -0 like 0; and back.
__device__ __forceinline__ u32 keyOf(float value) {
  const u32 bits = __float_as_uint(value + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float valueOf(u32 key) {
  return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

// A score and its token as one integer whose order is: higher score, then lower token.
__device__ __forceinline__ u64 bestOf(float score, u32 token) { return u64(keyOf(score)) << 32 | u32(~token); }
__device__ __forceinline__ float scoreOf(u64 best) { return valueOf(u32(best >> 32)); }
__device__ __forceinline__ u32 tokenOf(u64 best) { return ~u32(best); }

// score = logit / temperature + noise, rounded as the twin rounds it.
__device__ __forceinline__ float scoreWith(float logit, float inverse, float noise) {
  return __fadd_rn(__fmul_rn(logit, inverse), noise);
}

// exp((x - most) * scale) without infinities.
__device__ __forceinline__ float expFrom(float x, float most, float scale) {
  return expf(fmaxf((x - most) * scale, -100.0f));
}

// Reductions over a CTA of SAMPLE_THREADS threads: all of them get the result, whose order is fixed.
#define SAMPLE_WARPS (SAMPLE_THREADS / 32)
__device__ __forceinline__ u64 shuffleXor(u64 value, int width) {
  const u32 low = __shfl_xor_sync(0xffffffffu, u32(value), width);
  const u32 high = __shfl_xor_sync(0xffffffffu, u32(value >> 32), width);
  return u64(high) << 32 | low;
}
__device__ __forceinline__ u64 warpBest(u64 best) {
#pragma unroll
  for (int width = 16; width > 0; width /= 2) best = max(best, shuffleXor(best, width));
  return best;
}
__device__ __forceinline__ u64 blockBest(u64 best, u64 *shared) {
  best = warpBest(best);
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = best;
  __syncthreads();
  best = shared[0];
#pragma unroll
  for (int i = 1; i < SAMPLE_WARPS; i++) best = max(best, shared[i]);
  __syncthreads();
  return best;
}
__device__ __forceinline__ u64 blockSum(u64 sum, u64 *shared) {
#pragma unroll
  for (int width = 16; width > 0; width /= 2) sum += shuffleXor(sum, width);
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = sum;
  __syncthreads();
  sum = shared[0];
#pragma unroll
  for (int i = 1; i < SAMPLE_WARPS; i++) sum += shared[i];
  __syncthreads();
  return sum;
}
__device__ __forceinline__ float blockSum(float sum, u64 *shared) {
#pragma unroll
  for (int width = 16; width > 0; width /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, width);
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = __float_as_uint(sum);
  __syncthreads();
  sum = __uint_as_float(u32(shared[0]));
#pragma unroll
  for (int i = 1; i < SAMPLE_WARPS; i++) sum += __uint_as_float(u32(shared[i]));
  __syncthreads();
  return sum;
}
