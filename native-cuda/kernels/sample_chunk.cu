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

// Best logit / temperature + noise of the thread's tokens. Rough noise tells which few are worth exact noise.
__device__ __forceinline__ u64 drawChunk(const float (&values)[QUADS][4], const SampleRow &row, u32 first) {
  float most = SAMPLE_ABSENT;
  u32 token = ~0u;
#pragma unroll
  for (int i = 0; i < QUADS; i++) {
    const u32 quad = first / 4 + i * SAMPLE_THREADS + threadIdx.x;
    const uint4 words4 = philox(quad, row.counter, row.seedLow, row.seedHigh);
    const u32 words[4] = {words4.x, words4.y, words4.z, words4.w};
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const float scaled = __fmul_rn(values[i][j], row.inverse);
      const float rough = scaled + roughGumbel(words[j]);
      const float margin = fmaf(fabsf(scaled), 5e-7f, 1e-3f); // errors of rough noise and of sums
      if (!(values[i][j] > -SAMPLE_LIMIT) || rough + margin < most) continue;
      const float score = __fadd_rn(scaled, gumbel(words[j]));
      if (score > most) {
        most = score;
        token = quad * 4 + j;
      }
    }
  }
  return bestOf(most, token);
}

extern "C" __global__ void __launch_bounds__(SAMPLE_THREADS, 4)
sample_chunk(const u32 *meta, float *logits, u32 *scratch, u32 vocab, u32 chunks, u32 capacity, u32 sampling,
             u32 adjust, u32 top, u32 savedAt, u32 logitRows) {
  __shared__ u64 shared[SAMPLE_WARPS];
  const u32 units = min(meta[logitRows], capacity) * chunks;
  letNextStart();
  waitForEarlier();
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
      // Each round takes the best token behind the one taken last.
      u64 previous = ~0ull;
      u32 *topWords = scratch + top + u64(unit) * TOP_WORDS;
      for (u32 place = 0; place < min(row.tops, end - first); place++) {
        u64 best = 0;
#pragma unroll
        for (int i = 0; i < QUADS; i++)
#pragma unroll
          for (int j = 0; j < 4; j++) {
            const u64 own = bestOf(values[i][j], first + (i * SAMPLE_THREADS + threadIdx.x) * 4 + j);
            if (own < previous) best = max(best, own);
          }
        previous = blockBest(best, shared);
        if (threadIdx.x == 0) {
          topWords[place] = tokenOf(previous);
          topWords[MAX_TOP_LOGPROBS + place] = __float_as_uint(scoreOf(previous));
        }
      }
    }
    if (row.adjustStart < row.adjustEnd) {
      __syncthreads(); // everyone has read the raw logits
      adjustChunk(meta, at, row, adjust, rowLogits, first, end, reinterpret_cast<float *>(scratch + savedAt));
      __syncthreads();
      loadChunk(rowLogits, first, end, values);
    }
    u64 best = row.mode == PLAIN ? drawChunk(values, row, first) : threadBest(values, first);
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
    }
    if (threadIdx.x == 0) {
      partial[PARTIAL_SCORE] = __float_as_uint(none ? SAMPLE_ABSENT : score);
      partial[PARTIAL_TOKEN] = none ? 0 : tokenOf(best);
    }
  }
}
