// Middle stage of sampling, for rows with top-k, top-p or min-p: puts the tokens that can be left into the row's list of
// candidates, and sums the probability masses of all tokens. The CTAs divide the chunks of those rows among them; other
// rows cost nothing.
//
// Macros: VECTOR (vocabularies that are multiples of 4).
#define SAMPLE_THREADS 256
#include "lib/thresholds.cuh"

#define QUADS 4 // of a thread, as in sample_chunk
#define CHUNK (SAMPLE_THREADS * QUADS * 4)
#define MOST_ROWS 1024 // that are listed at once

// A bin behind which top-p leaves nothing, from what the chunks' masses are at least: each thread tries a distance.
__device__ u32 topPBinOf(const Candidates &candidates, const u32 *partials, const RowSums &sums, const SampleRow &row,
                         u32 *shared) {
  if (threadIdx.x == 0) *shared = BINS - 1;
  __syncthreads();
  const float reach = float(threadIdx.x + 1) * 0.125f; // up to 32
  float mass = 0.0f;
  for (u32 chunk = 0; chunk < candidates.chunks; chunk++) {
    const float offset = (sums.most - __uint_as_float(partials[chunk * PARTIAL_WORDS + PARTIAL_SCORE])) * row.inverse;
    const int step = int(fminf(fmaxf(reach - offset, -1.0f), float(MASS_STEPS)));
    if (step >= 1) mass += expf(-offset) * float(candidates.masses(chunk)[step - 1]);
  }
  if (mass >= row.topP * 1.001f * sums.mass * float(1 << MASS_BITS))
    atomicMin(shared, u32(reach * BINS_PER_UNIT) + 1);
  __syncthreads();
  return *shared;
}

// A bin behind which top-k leaves nothing: where the count of the groups' largest reaches k there are at least k tokens.
__device__ u32 topKBinOf(const Candidates &candidates, RowMemory &memory, const Scale &scale, u32 topK) {
  clearHistogram(memory);
  for (u32 i = threadIdx.x; i < candidates.chunks * GROUPS; i += SAMPLE_THREADS) {
    const u32 bin = distanceBin(scale, candidates.largest()[i]);
    if (bin < BINS) atomicAdd(&memory.counts[bin], 1u);
  }
  findBin(memory, false, topK, 0, 0);
  return memory.foundBin;
}

__device__ void gatherChunk(const float *logits, u32 first, u32 end, RowMemory &memory, const Scale &scale, u32 lastBin,
                            bool masses, const Candidates &candidates, u32 *partial) {
  float values[QUADS][4];
#pragma unroll
  for (int i = 0; i < QUADS; i++) {
    const u32 token = first + (i * SAMPLE_THREADS + threadIdx.x) * 4;
#pragma unroll
    for (int j = 0; j < 4; j++) values[i][j] = SAMPLE_ABSENT;
#if VECTOR
    if (token < end) loadFloats<F32>(logits + token, values[i]);
#else
#pragma unroll
    for (int j = 0; j < 4; j++)
      if (token + j < end) values[i][j] = logits[token + j];
#endif
  }
  if (threadIdx.x == 0) memory.length = 0;
  __syncthreads();
  u64 total = 0;
#pragma unroll
  for (int i = 0; i < QUADS; i++)
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const u32 token = first + (i * SAMPLE_THREADS + threadIdx.x) * 4 + j;
      const float value = token < end ? cleanLogit(values[i][j]) : SAMPLE_ABSENT;
      const u32 bin = distanceBin(scale, value);
      if (bin >= BINS) continue;
      if (masses) total += massOf(scale, value);
      if (bin > lastBin || *(volatile u32 *)&memory.length > LIST) continue; // there are too many already
      const u32 place = atomicAdd(&memory.length, 1u);
      if (place >= LIST) continue;
      memory.keys[place] = keyOf(value);
      memory.tokens[place] = token;
    }
  total = blockSum(total, memory.reduce);
  const u32 length = memory.length;
  if (threadIdx.x == 0) {
    partial[PARTIAL_EXACT_LOW] = u32(total);
    partial[PARTIAL_EXACT_HIGH] = u32(total >> 32);
    memory.foundBin = length > 0 ? atomicAdd(candidates.count(), length) : 0;
  }
  __syncthreads();
  const u32 start = memory.foundBin;
  for (u32 i = threadIdx.x; i < min(length, u32(LIST)) && start + i < candidates.capacity; i += SAMPLE_THREADS) {
    candidates.entry(start + i)[0] = memory.keys[i];
    candidates.entry(start + i)[1] = memory.tokens[i];
  }
  __syncthreads();
}

extern "C" __global__ void __launch_bounds__(SAMPLE_THREADS)
sample_gather(const u32 *meta, const float *logits, u32 *scratch, u32 vocab, u32 chunks, u32 capacity, u32 sampling,
              u32 logitRows, u32 candidatesAt, u32 candidateCapacity) {
  __shared__ RowMemory memory;
  __shared__ u32 listed, topPBin;
  __shared__ u16 found[MOST_ROWS];
  __shared__ u8 filtered[MOST_ROWS];
  const u32 rows = min(meta[logitRows], capacity);
  for (u32 firstRow = 0; firstRow < rows || firstRow == 0; firstRow += MOST_ROWS) {
    // The rows that this stage is for, in order, so that all CTAs have the same list.
    const u32 count = min(rows - firstRow, u32(MOST_ROWS));
    for (u32 i = threadIdx.x; i < count; i += SAMPLE_THREADS)
      filtered[i] = sampleRow(meta, sampling + (firstRow + i) * SAMPLE_WORDS, vocab).mode == FILTERED;
    __syncthreads();
    if (threadIdx.x < 32) {
      u32 length = 0;
      for (u32 i = threadIdx.x; i - threadIdx.x < count; i += 32) {
        const u32 ballot = __ballot_sync(0xffffffffu, i < count && filtered[i]);
        if (ballot >> threadIdx.x & 1) found[length + __popc(ballot & ((1u << threadIdx.x) - 1))] = u16(i);
        length += __popc(ballot);
      }
      if (threadIdx.x == 0) listed = length;
    }
    __syncthreads();
    if (firstRow == 0) {
      waitForEarlier();
      letNextStart();
    }
    const u32 parts = listed > 0 ? max(1u, min(chunks, gridDim.x / listed)) : 1; // CTAs of a row
    for (u32 unit = blockIdx.x; unit < listed * parts; unit += gridDim.x) {
      const u32 index = firstRow + found[unit / parts];
      const SampleRow row = sampleRow(meta, sampling + index * SAMPLE_WORDS, vocab);
      const Candidates candidates = candidatesOf(scratch, candidatesAt, index, chunks, candidateCapacity);
      u32 *partials = scratch + u64(index) * chunks * PARTIAL_WORDS;
      const RowSums sums = rowSums(partials, chunks, row.inverse);
      const Scale scale = {sums.most, row.inverse};
      const u32 topKBin = row.topK > 0 ? topKBinOf(candidates, memory, scale, row.topK) : 0;
      u32 lastBin = lastBinOf(row, topKBin, sums.mass, vocab);
      if (row.topK == 0 && row.topP < 1.0f)
        lastBin = min(lastBin, topPBinOf(candidates, partials, sums, row, &topPBin));
      for (u32 chunk = unit % parts; chunk < chunks; chunk += parts)
        gatherChunk(logits + u64(index) * vocab, chunk * CHUNK, min((chunk + 1) * CHUNK, vocab), memory, scale, lastBin,
                    row.topP < 1.0f, candidates, partials + chunk * PARTIAL_WORDS);
    }
    __syncthreads();
  }
}
