// First stage of sampling, a CTA for each (row, chunk of the vocabulary): statistics and best tokens of the raw logits
// where they are wanted, adjustments (in place), and the chunk's best token for rows without thresholds: greedy, or
// drawn by the Gumbel-max trick (argmax of logit / temperature + Gumbel noise is a draw from the softmax). The chunk's
// logits are read once and stay in registers.
//
// Macros: VECTOR (vocabularies that are multiples of 4).
#define SAMPLE_THREADS 256
#include "lib/sampling.cuh"

#define QUADS 4 // of a thread
#define CHUNK (SAMPLE_THREADS * QUADS * 4)

// Clean logits of this thread's quads: quad i holds tokens first + (i * SAMPLE_THREADS + thread) * 4 and on.
__device__ __forceinline__ void loadChunk(const float *row, u32 first, u32 end, float (&values)[QUADS][4]) {
#pragma unroll
  for (int i = 0; i < QUADS; i++) {
    const u32 token = first + (i * SAMPLE_THREADS + threadIdx.x) * 4;
#if VECTOR
    float4 quad = make_float4(SAMPLE_ABSENT, SAMPLE_ABSENT, SAMPLE_ABSENT, SAMPLE_ABSENT);
    if (token < end) quad = *reinterpret_cast<const float4 *>(row + token);
    values[i][0] = quad.x;
    values[i][1] = quad.y;
    values[i][2] = quad.z;
    values[i][3] = quad.w;
#else
#pragma unroll
    for (int j = 0; j < 4; j++) values[i][j] = token + j < end ? row[token + j] : 0.0f;
#endif
  }
#pragma unroll
  for (int i = 0; i < QUADS; i++) {
    const u32 token = first + (i * SAMPLE_THREADS + threadIdx.x) * 4;
#pragma unroll
    for (int j = 0; j < 4; j++) values[i][j] = token + j < end ? cleanLogit(values[i][j]) : SAMPLE_ABSENT;
  }
}

// Applies the row's entries for tokens of this chunk and keeps their raw logits for the second stage.
__device__ void adjustChunk(const u32 *meta, u32 at, const SampleRow &row, u32 adjust, float *logits, u32 first, u32 end,
                            float *saved) {
  const float repetition = __uint_as_float(meta[at + REPETITION]);
  const float frequency = __uint_as_float(meta[at + FREQUENCY]);
  const float presence = __uint_as_float(meta[at + PRESENCE]);
  for (u32 entry = row.adjustStart + threadIdx.x; entry < row.adjustEnd; entry += SAMPLE_THREADS) {
    const u32 *words = meta + adjust + u64(entry) * ADJUST_WORDS;
    const u32 token = words[ADJUST_TOKEN];
    if (token < first || token >= end) continue;
    const u32 count = words[ADJUST_OUTPUT_COUNT];
    const float bias = cleanLogit(__uint_as_float(words[ADJUST_BIAS]));
    const float raw = cleanLogit(logits[token]);
    float value = raw;
    if (count > 0 || words[ADJUST_IN_PROMPT] > 0) value = raw > 0.0f ? raw / repetition : raw * repetition;
    value = __fsub_rn(value, __fmul_rn(frequency, float(count)));
    if (count > 0) value -= presence;
    value = cleanLogit(value + bias);
    logits[token] = raw <= -SAMPLE_LIMIT || bias <= -SAMPLE_LIMIT ? -SAMPLE_LIMIT : value;
    saved[entry] = raw;
  }
}

// Largest value of the thread and its first token.
__device__ __forceinline__ u64 threadBest(const float (&values)[QUADS][4], u32 first) {
  float most = SAMPLE_ABSENT;
  u32 token = ~0u;
#pragma unroll
  for (int i = 0; i < QUADS; i++)
#pragma unroll
    for (int j = 0; j < 4; j++) {
      if (values[i][j] > most) {
        most = values[i][j];
        token = first + (i * SAMPLE_THREADS + threadIdx.x) * 4 + j;
      }
    }
  return bestOf(most, token);
}

// Best logit / temperature + noise of the thread's tokens. Noise is below -ln(v) for a random word of v * 2^32, so words
// above a bound cannot win; rough noise tells which of the others are worth exact noise. The first quads of all threads
// find a score that the best one cannot be below.
__device__ __forceinline__ u64 drawChunk(const float (&values)[QUADS][4], const SampleRow &row, u32 first,
                                         u64 *shared) {
  float most = SAMPLE_ABSENT;
  float least = SAMPLE_ABSENT; // no smaller score is the chunk's best
  u32 token = ~0u;
#pragma unroll
  for (int i = 0; i < QUADS; i++) {
    const u32 quad = first / 4 + i * SAMPLE_THREADS + threadIdx.x;
    const uint4 words4 = philox(quad, row.counter, row.seedLow, row.seedHigh);
    const u32 words[4] = {words4.x, words4.y, words4.z, words4.w};
    const float largest = fmaxf(fmaxf(values[i][0], values[i][1]), fmaxf(values[i][2], values[i][3])) * row.inverse;
    // e^-(least - largest) * 2^32, and a little more.
    const float bound = __expf(fminf(largest - least, 0.0f) + fmaf(fabsf(largest), 5e-7f, 1e-3f)) * 4294967296.0f;
    const u32 limit = bound >= 4294967040.0f ? ~0u : u32(bound) + 2;
#pragma unroll
    for (int j = 0; j < 4; j++) {
      if (words[j] > limit || !(values[i][j] > -SAMPLE_LIMIT)) continue;
      const float scaled = __fmul_rn(values[i][j], row.inverse);
      const float rough = scaled + roughGumbel(words[j]);
      if (rough + fmaf(fabsf(scaled), 5e-7f, 1e-3f) < fmaxf(most, least)) continue; // errors of rough noise and of sums
      const float score = __fadd_rn(scaled, gumbel(words[j]));
      if (score > most) {
        most = score;
        token = quad * 4 + j;
      }
    }
    if (i == 0) least = scoreOf(blockBest(bestOf(most, 0), shared));
  }
  return bestOf(most, token);
}

extern "C" __global__ void __launch_bounds__(SAMPLE_THREADS, 4)
sample_chunk(const u32 *meta, float *logits, u32 *scratch, u32 vocab, u32 chunks, u32 capacity, u32 sampling,
             u32 adjust, u32 top, u32 savedAt, u32 logitRows, u32 candidatesAt, u32 candidateCapacity) {
  __shared__ u64 shared[SAMPLE_WARPS];
  const u32 units = min(meta[logitRows], capacity) * chunks;
  waitForEarlier();
  letNextStart();
  for (u32 unit = blockIdx.x; unit < units; unit += gridDim.x) {
    const u32 rowIndex = unit / chunks;
    const u32 first = (unit - rowIndex * chunks) * CHUNK;
    const u32 end = min(first + CHUNK, vocab);
    const u32 at = sampling + rowIndex * SAMPLE_WORDS;
    float *rowLogits = logits + u64(rowIndex) * vocab;
    u32 *partial = scratch + u64(unit) * PARTIAL_WORDS;
    float values[QUADS][4];
    loadChunk(rowLogits, first, end, values);
    const SampleRow row = sampleRow(meta, at, vocab);
    if (row.logprobs) {
      const float most = scoreOf(blockBest(threadBest(values, first), shared));
      float sum = 0.0f;
#pragma unroll
      for (int i = 0; i < QUADS; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
          if (values[i][j] > SAMPLE_ABSENT) sum += expFrom(values[i][j], most, 1.0f);
      sum = blockSum(sum, shared);
      if (threadIdx.x == 0) {
        partial[PARTIAL_RAW_MAX] = __float_as_uint(most);
        partial[PARTIAL_RAW_SUM] = __float_as_uint(sum);
      }
      // Each round takes the best token that is left; only the thread that had it looks for its next one.
      u32 *topWords = scratch + top + u64(unit) * TOP_WORDS;
      const u32 tops = min(row.tops, end - first);
      u64 mine = tops > 0 ? threadBest(values, first) : 0;
      for (u32 place = 0; place < tops; place++) {
        const u64 best = blockBest(mine, shared);
        if (mine == best) {
          mine = 0;
#pragma unroll
          for (int i = 0; i < QUADS; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
              const u64 own = bestOf(values[i][j], first + (i * SAMPLE_THREADS + threadIdx.x) * 4 + j);
              if (own < best) mine = max(mine, own);
            }
          topWords[place] = tokenOf(best);
          topWords[MAX_TOP_LOGPROBS + place] = __float_as_uint(scoreOf(best));
        }
      }
    }
    if (row.adjustStart < row.adjustEnd) {
      __syncthreads(); // everyone has read the raw logits
      adjustChunk(meta, at, row, adjust, rowLogits, first, end, reinterpret_cast<float *>(scratch + savedAt));
      __syncthreads();
      loadChunk(rowLogits, first, end, values);
    }
    u64 best = row.mode == PLAIN ? drawChunk(values, row, first, shared) : threadBest(values, first);
    best = blockBest(best, shared);
    const float score = scoreOf(best);
    // A chunk of forbidden tokens has no best one.
    const bool none = score <= -SAMPLE_LIMIT && (row.mode != PLAIN || tokenOf(best) == ~0u);
    if (row.mode == FILTERED) {
      float mass = 0.0f;
#pragma unroll
      for (int i = 0; i < QUADS; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) mass += expf(-fminf(fmaxf((score - values[i][j]) * row.inverse, 0.0f), 100.0f));
      mass = blockSum(mass, shared);
      if (threadIdx.x == 0) partial[PARTIAL_MASS] = __float_as_uint(none ? 0.0f : mass);
      if (candidateCapacity > 0) {
        const Candidates candidates = candidatesOf(scratch, candidatesAt, rowIndex, chunks, candidateCapacity);
        const u32 chunk = unit - rowIndex * chunks;
        const u64 largest = warpBest(threadBest(values, first));
        if (threadIdx.x % 32 == 0) candidates.largest()[chunk * GROUPS + threadIdx.x / 32] = scoreOf(largest);
        if (threadIdx.x == 0 && chunk == 0) *candidates.count() = 0;
      }
    }
    if (threadIdx.x == 0) {
      partial[PARTIAL_SCORE] = __float_as_uint(none ? SAMPLE_ABSENT : score);
      partial[PARTIAL_TOKEN] = none ? 0 : tokenOf(best);
    }
  }
}
