// Last stage of sampling, a CTA for each row: joins the chunks' results, draws where thresholds need the whole row,
// and looks up log-probabilities, rank and best tokens of the raw logits.
//
// Macros: VECTOR (vocabularies that are multiples of 4).
#define SAMPLE_THREADS 512
#include "lib/thresholds.cuh"

// Clean logits of tokens token .. token + 3 (token is a multiple of 4), ABSENT behind the vocabulary.
__device__ __forceinline__ void loadQuad(const float *logits, u32 token, u32 vocab, float (&values)[4]) {
#if VECTOR
  const float4 quad = *reinterpret_cast<const float4 *>(logits + token);
  values[0] = cleanLogit(quad.x);
  values[1] = cleanLogit(quad.y);
  values[2] = cleanLogit(quad.z);
  values[3] = cleanLogit(quad.w);
#else
#pragma unroll
  for (int j = 0; j < 4; j++) values[j] = token + j < vocab ? cleanLogit(logits[token + j]) : SAMPLE_ABSENT;
#endif
}

// Calls visit(value, token) for all tokens: those of the list where it holds everything, else of the row.
template <class Visit>
__device__ __forceinline__ void visitTokens(const float *logits, u32 vocab, const RowMemory &memory, bool listed,
                                            u32 length, Visit visit) {
  if (listed) {
    for (u32 i = threadIdx.x; i < length; i += SAMPLE_THREADS) visit(valueOf(memory.keys[i]), memory.tokens[i]);
    return;
  }
#pragma unroll 8
  for (u32 token = threadIdx.x * 4; token < vocab; token += SAMPLE_THREADS * 4) {
    float values[4];
    loadQuad(logits, token, vocab, values);
#pragma unroll
    for (int j = 0; j < 4; j++) visit(values[j], token + j);
  }
}

__device__ __forceinline__ Interval everything(u32 vocab) { return {BY_DISTANCE, 0, ~0u, 0, vocab - 1, 1}; }

// Puts tokens of bins 0..lastBin of the interval into the list; returns their number (the list keeps LIST of them).
__device__ u32 gather(const float *logits, u32 vocab, RowMemory &memory, const Scale &scale, const Interval &interval,
                      u32 lastBin, u64 *total) {
  if (threadIdx.x == 0) memory.length = 0;
  __syncthreads();
  u64 sum = 0;
  visitTokens(logits, vocab, memory, false, 0, [&](float value, u32 token) {
    if (distanceBin(scale, value) >= BINS) return;
    const u32 mass = massOf(scale, value);
    sum += mass;
    if (binOf(scale, interval, value, token) > lastBin) return;
    const u32 at = atomicAdd(&memory.length, 1u);
    if (at >= LIST) return;
    memory.keys[at] = keyOf(value);
    memory.tokens[at] = token;
    memory.listMasses[at] = mass;
  });
  __syncthreads();
  if (total) *total = blockSum(sum, memory.reduce);
  return memory.length;
}

// Finds the token at which count or mass reaches what is wanted; memory.cut says which, and stays as it is when all
// listed tokens together do not reach it.
__device__ void findCut(const float *logits, u32 vocab, RowMemory &memory, const Scale &scale, bool complete, u32 length,
                        bool byMass, u64 wanted) {
  Interval interval = everything(vocab);
  u32 countBefore = 0;
  u64 massBefore = 0;
  while (!(complete && length <= SHORT_LIST)) {
    clearHistogram(memory);
    visitTokens(logits, vocab, memory, complete, length, [&](float value, u32 token) {
      if (distanceBin(scale, value) >= BINS) return;
      const u32 bin = binOf(scale, interval, value, token);
      if (bin >= BINS) return;
      addToBin(memory, bin, massOf(scale, value), true);
    });
    findBin(memory, byMass, wanted, countBefore, massBefore);
    const u32 bin = memory.foundBin, inside = memory.foundInside;
    countBefore = memory.foundCount;
    massBefore = memory.foundMass;
    __syncthreads();
    if (bin == BINS) { // all of them together do not reach it
      if (threadIdx.x == 0) memory.cut = {0, ~0u, massBefore};
      __syncthreads();
      return;
    }
    interval = narrow(scale, interval, bin);
    if (complete) break;
    if (inside <= LIST) {
      length = min(gather(logits, vocab, memory, scale, interval, BINS - 1, nullptr), u32(LIST));
      break;
    }
  }
  rankList(memory, scale, interval, length, byMass, wanted, countBefore, massBefore);
}

// A bound for top-k from the row itself: where the count of quads reaches k there are at least k tokens.
__device__ u32 topKBinOf(const float *logits, u32 vocab, RowMemory &memory, const Scale &scale, u32 topK) {
  clearHistogram(memory);
#pragma unroll 8
  for (u32 token = threadIdx.x * 4; token < vocab; token += SAMPLE_THREADS * 4) {
    float values[4];
    loadQuad(logits, token, vocab, values);
    const u32 bin = distanceBin(scale, fmaxf(fmaxf(values[0], values[1]), fmaxf(values[2], values[3])));
    if (bin < BINS) atomicAdd(&memory.counts[bin], 1u);
  }
  findBin(memory, false, topK, 0, 0);
  return memory.foundBin;
}

// Takes the candidates that the second stage left; their number, and the mass of the whole row. More of them than the
// list has places: the row itself has to be read.
__device__ u32 takeCandidates(const Candidates &candidates, const u32 *partials, RowMemory &memory, const Scale &scale,
                              u64 *total) {
  const u32 length = *candidates.count();
  for (u32 i = threadIdx.x; length <= candidates.capacity && i < length; i += SAMPLE_THREADS) {
    const u32 *entry = candidates.entry(i);
    memory.keys[i] = entry[0];
    memory.tokens[i] = entry[1];
    memory.listMasses[i] = massOf(scale, valueOf(entry[0]));
  }
  u64 sum = 0;
  for (u32 chunk = threadIdx.x; chunk < candidates.chunks; chunk += SAMPLE_THREADS) {
    const u32 *partial = partials + chunk * PARTIAL_WORDS;
    sum += u64(partial[PARTIAL_EXACT_HIGH]) << 32 | partial[PARTIAL_EXACT_LOW];
  }
  *total = blockSum(sum, memory.reduce);
  return length;
}

// Draws among the tokens that top-k, then top-p, then min-p leave.
__device__ u32 drawFiltered(const float *logits, u32 vocab, RowMemory &memory, const SampleRow &row,
                            const Candidates &candidates, const u32 *partials) {
  const RowSums sums = rowSums(partials, candidates.chunks, row.inverse);
  const Scale scale = {sums.most, row.inverse};
  const bool useTopK = row.topK > 0, useTopP = row.topP < 1.0f;
  const float farthest = row.minP > 0.0f ? fmaxf(-logf(row.minP), 0.0f) : float(BINS);
  u64 total = 0;
  u32 length = ~0u;
  bool complete = false;
  if (candidates.capacity > 0) {
    length = takeCandidates(candidates, partials, memory, scale, &total);
    complete = length <= candidates.capacity;
  }
  if (!complete) {
    const u32 topKBin = useTopK ? topKBinOf(logits, vocab, memory, scale, row.topK) : 0;
    const u32 lastBin = lastBinOf(row, topKBin, sums.mass, vocab);
    length = gather(logits, vocab, memory, scale, everything(vocab), lastBin, &total);
    complete = length <= LIST;
  }
  if (threadIdx.x == 0) memory.cut = {0, ~0u, total};
  __syncthreads();
  if (useTopK) findCut(logits, vocab, memory, scale, complete, length, false, row.topK);
  if (useTopP) {
    const u64 wanted = shareOf(memory.cut.mass, row.topP);
    __syncthreads();
    findCut(logits, vocab, memory, scale, complete, length, true, wanted);
  }
  const Cut cut = memory.cut;
  u64 best = 0;
  visitTokens(logits, vocab, memory, complete, length, [&](float value, u32 token) {
    const u32 key = keyOf(value);
    if (key < cut.key || (key == cut.key && token > cut.token)) return;
    if (distanceBin(scale, value) >= BINS || (scale.most - value) * scale.inverse > farthest) return;
    const uint4 words = philox(token / 4, row.counter, row.seedLow, row.seedHigh);
    const u32 word = token % 4 == 0 ? words.x : token % 4 == 1 ? words.y : token % 4 == 2 ? words.z : words.w;
    best = max(best, bestOf(scoreWith(value, scale.inverse, gumbel(word)), token));
  });
  return tokenOf(blockBest(best, memory.reduce));
}

// Log-softmax from (largest, sum of exp(logit - largest)).
__device__ __forceinline__ float logprobOf(float raw, float most, float sum) {
  return most <= -SAMPLE_LIMIT ? -SAMPLE_LIMIT : fmaxf((raw - most) - logf(fmaxf(sum, 1.0f)), -SAMPLE_LIMIT);
}

// The best `count` tokens out of the chunks' best; each is put where the number of better ones says.
__device__ void writeTops(const u32 *topWords, u32 chunks, u32 chunkTokens, u32 vocab, u32 count, float most, float sum,
                          RowMemory &memory, u32 *out) {
  const auto load = [&](u32 i) -> u64 {
    const u32 chunk = i / count, place = i % count;
    if (chunk * chunkTokens + place >= vocab) return 0;
    const u32 *words = topWords + chunk * TOP_WORDS;
    return bestOf(__uint_as_float(words[MAX_TOP_LOGPROBS + place]), words[place]);
  };
  const u32 total = chunks * count;
  const bool kept = total <= LIST; // else they are read again and again
  u64 *list = memory.tops;
  for (u32 i = threadIdx.x; kept && i < total; i += SAMPLE_THREADS) list[i] = load(i);
  __syncthreads();
  for (u32 i = threadIdx.x; i < total; i += SAMPLE_THREADS) {
    const u64 own = kept ? list[i] : load(i);
    u32 place = 0;
    // A chunk's list is sorted, so what follows a worse one is worse.
    for (u32 chunk = 0; chunk < chunks && place < count; chunk++)
      for (u32 j = 0; j < count && (kept ? list[chunk * count + j] : load(chunk * count + j)) > own; j++) place++;
    if (own == 0 || place >= count) continue;
    out[SAMPLED_TOP_TOKENS + place] = tokenOf(own);
    out[SAMPLED_TOP_LOGPROBS + place] = __float_as_uint(logprobOf(scoreOf(own), most, sum));
  }
  __syncthreads();
}

extern "C" __global__ void __launch_bounds__(SAMPLE_THREADS)
sample_row(const u32 *meta, const float *allLogits, const u32 *scratch, u32 *sampled, u32 vocab, u32 chunks,
           u32 chunkTokens, u32 capacity, u32 sampling, u32 adjust, u32 top, u32 savedAt, u32 logitRows,
           u32 candidatesAt, u32 candidateCapacity) {
  __shared__ RowMemory memory;
  const u32 rows = min(meta[logitRows], capacity);
  waitForEarlier();
  letNextStart();
  for (u32 index = blockIdx.x; index < rows; index += gridDim.x) {
    const SampleRow row = sampleRow(meta, sampling + index * SAMPLE_WORDS, vocab);
    const float *logits = allLogits + u64(index) * vocab;
    const u32 *partials = scratch + u64(index) * chunks * PARTIAL_WORDS;
    u32 *out = sampled + u64(index) * SAMPLED_WORDS;

    u64 mine = bestOf(SAMPLE_ABSENT, 0);
    for (u32 chunk = threadIdx.x; chunk < chunks; chunk += SAMPLE_THREADS) {
      const u32 *partial = partials + chunk * PARTIAL_WORDS;
      mine = max(mine, bestOf(__uint_as_float(partial[PARTIAL_SCORE]), partial[PARTIAL_TOKEN]));
    }
    const u64 best = blockBest(mine, memory.reduce);
    u32 token = tokenOf(best);
    if (row.mode == FILTERED && scoreOf(best) > SAMPLE_ABSENT) {
      const Candidates candidates =
          candidatesOf(const_cast<u32 *>(scratch), candidatesAt, index, chunks, candidateCapacity);
      token = drawFiltered(logits, vocab, memory, row, candidates, partials);
    }
    float logprob = 0.0f;
    u32 rank = 0;
    if (row.logprobs) {
      u64 largest = 0;
      for (u32 chunk = threadIdx.x; chunk < chunks; chunk += SAMPLE_THREADS)
        largest = max(largest, bestOf(__uint_as_float(partials[chunk * PARTIAL_WORDS + PARTIAL_RAW_MAX]), 0));
      const float rawMost = scoreOf(blockBest(largest, memory.reduce));
      float sum = 0.0f;
      for (u32 chunk = threadIdx.x; chunk < chunks; chunk += SAMPLE_THREADS) {
        const u32 *partial = partials + chunk * PARTIAL_WORDS;
        sum += __uint_as_float(partial[PARTIAL_RAW_SUM]) *
               expFrom(__uint_as_float(partial[PARTIAL_RAW_MAX]), rawMost, 1.0f);
      }
      sum = blockSum(sum, memory.reduce);
      // The raw logit of the token: the first stage kept those that were adjusted.
      const float *saved = reinterpret_cast<const float *>(scratch + savedAt);
      u64 kept = 0;
      for (u32 entry = row.adjustStart + threadIdx.x; entry < row.adjustEnd; entry += SAMPLE_THREADS)
        if (meta[adjust + u64(entry) * ADJUST_WORDS + ADJUST_TOKEN] == token) kept = bestOf(saved[entry], 0);
      kept = blockBest(kept, memory.reduce);
      const float raw = kept > 0 ? scoreOf(kept) : cleanLogit(logits[token]);
      if (raw < rawMost) {
        u64 larger = 0;
        visitTokens(logits, vocab, memory, false, 0, [&](float value, u32) { larger += value > raw; });
        // Adjusted tokens count with their raw logits instead (a thread's difference may wrap, the sum does not).
        for (u32 entry = row.adjustStart + threadIdx.x; entry < row.adjustEnd; entry += SAMPLE_THREADS) {
          const u32 adjusted = meta[adjust + u64(entry) * ADJUST_WORDS + ADJUST_TOKEN];
          if (adjusted < vocab) larger += u64(saved[entry] > raw) - u64(cleanLogit(logits[adjusted]) > raw);
        }
        rank = u32(blockSum(larger, memory.reduce));
      }
      logprob = logprobOf(raw, rawMost, sum);
      writeTops(scratch + top + u64(index) * chunks * TOP_WORDS, chunks, chunkTokens, vocab, row.tops, rawMost, sum,
                memory, out);
    }
    if (threadIdx.x == 0) {
      out[SAMPLED_TOKEN] = token;
      out[SAMPLED_LOGPROB] = __float_as_uint(logprob);
      out[SAMPLED_RANK] = rank;
      out[SAMPLED_TOP_COUNT] = row.tops;
    }
    __syncthreads();
  }
}
