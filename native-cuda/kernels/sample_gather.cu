// Middle stage of sampling, for rows with top-k, top-p or min-p: a CTA for each (row, chunk of the vocabulary) puts the
// tokens that can be left into the row's list of candidates and sums the probability masses of the others too. Other
// rows cost nothing: each CTA first lists the rows that it is for.
//
// Macros: VECTOR (vocabularies that are multiples of 4).
#define SAMPLE_THREADS 256
#include "lib/thresholds.cuh"

#define QUADS 4 // of a thread, as in sample_chunk
#define CHUNK (SAMPLE_THREADS * QUADS * 4)
#define MOST_ROWS 1024 // that are listed at once

extern "C" __global__ void __launch_bounds__(SAMPLE_THREADS)
sample_gather(const u32 *meta, const float *logits, u32 *scratch, u32 vocab, u32 chunks, u32 capacity, u32 sampling,
              u32 logitRows, u32 candidatesAt, u32 candidateCapacity) {
  __shared__ RowMemory memory;
  __shared__ u32 listed, found[MOST_ROWS];
  const u32 rows = min(meta[logitRows], capacity);
  letNextStart();
  for (u32 firstRow = 0; firstRow < rows || firstRow == 0; firstRow += MOST_ROWS) {
    __syncthreads();
    if (threadIdx.x == 0) listed = 0;
    __syncthreads();
    for (u32 row = firstRow + threadIdx.x; row < min(rows, firstRow + MOST_ROWS); row += SAMPLE_THREADS)
      if (sampleRow(meta, sampling + row * SAMPLE_WORDS, vocab).mode == FILTERED) found[atomicAdd(&listed, 1u)] = row;
    __syncthreads();
    if (firstRow == 0) waitForEarlier();
    // The order of the list may differ between CTAs, so a row's place in it decides nothing: each CTA takes chunks by row.
    for (u32 at = 0; at < listed; at++) {
      const u32 rowIndex = found[at];
      for (u32 chunk = (blockIdx.x + gridDim.x - rowIndex * chunks % gridDim.x) % gridDim.x; chunk < chunks;
           chunk += gridDim.x) {
        const SampleRow row = sampleRow(meta, sampling + rowIndex * SAMPLE_WORDS, vocab);
        const Candidates candidates = candidatesOf(scratch, candidatesAt, rowIndex, chunks, candidateCapacity);
        u32 *partials = scratch + u64(rowIndex) * chunks * PARTIAL_WORDS;
        const float *rowLogits = logits + u64(rowIndex) * vocab;
        const u32 first = chunk * CHUNK, end = min(first + CHUNK, vocab);
        float values[QUADS][4];
#pragma unroll
        for (int i = 0; i < QUADS; i++) {
          const u32 token = first + (i * SAMPLE_THREADS + threadIdx.x) * 4;
#pragma unroll
          for (int j = 0; j < 4; j++) values[i][j] = SAMPLE_ABSENT;
#if VECTOR
          if (token < end) loadFloats<F32>(rowLogits + token, values[i]);
#else
#pragma unroll
          for (int j = 0; j < 4; j++)
            if (token + j < end) values[i][j] = rowLogits[token + j];
#endif
        }
        const RowSums sums = rowSums(partials, chunks, row.inverse);
        const Scale scale = {sums.most, row.inverse};
        u32 topKBin = BINS - 1;
        if (row.topK > 0) {
          // Where the count of the groups' largest reaches k there are at least k tokens.
          clearHistogram(memory);
          for (u32 i = threadIdx.x; i < chunks * GROUPS; i += SAMPLE_THREADS) {
            const u32 bin = distanceBin(scale, candidates.largest()[i]);
            if (bin < BINS) atomicAdd(&memory.counts[bin], 1u);
          }
          findBin(memory, false, row.topK, 0, 0);
          topKBin = memory.foundBin;
        }
        const u32 lastBin = lastBinOf(row, topKBin, sums.mass, vocab);
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
            total += massOf(scale, value);
            if (bin > lastBin) continue;
            const u32 place = atomicAdd(&memory.length, 1u);
            if (place >= LIST) continue;
            memory.keys[place] = keyOf(value);
            memory.tokens[place] = token;
          }
        total = blockSum(total, memory.reduce);
        const u32 length = memory.length;
        __shared__ u32 start;
        if (threadIdx.x == 0) {
          partials[chunk * PARTIAL_WORDS + PARTIAL_EXACT_LOW] = u32(total);
          partials[chunk * PARTIAL_WORDS + PARTIAL_EXACT_HIGH] = u32(total >> 32);
          start = length > 0 ? atomicAdd(candidates.count(), length) : 0;
        }
        __syncthreads();
        for (u32 i = threadIdx.x; i < length; i += SAMPLE_THREADS) {
          if (i >= LIST || start + i >= candidateCapacity) break;
          candidates.entry(start + i)[0] = memory.keys[i];
          candidates.entry(start + i)[1] = memory.tokens[i];
        }
        __syncthreads();
      }
    }
  }
}
