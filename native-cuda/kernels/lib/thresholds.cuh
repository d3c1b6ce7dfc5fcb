// Thresholds of sampling for one row, without a sort: finds the last token that top-k and top-p leave.
//
// Tokens are ordered by (logit descending, id ascending). Distances below are (largest logit - logit) / temperature;
// tokens from distance 32 on are left out everywhere, as their noise could never make them win. Probability masses are
// integers in units of 2^-32 of the most likely token's, summed in 64 bits: no sum depends on its order.
#pragma once
#include "lib/sampling.cuh"

#define BINS 512
#define BINS_PER_UNIT 16.0f // of distance
#define LIST 512            // tokens that are kept in shared memory; at least vocabulary / BINS saves passes over ties
#define SHORT_LIST 64       // ranked without a histogram

// The last token that is left, and the mass up to it, itself included.
struct Cut {
  u32 key, token;
  u64 mass;
};

// Tokens whose key and id lie in closed ranges, cut into BINS bins by distance, key or id.
enum Order { BY_DISTANCE, BY_KEY, BY_TOKEN };
struct Interval {
  Order by;
  u32 keyLow, keyHigh, tokenLow, tokenHigh, width;
};

// A row's largest logit and how its distances are measured.
struct Scale {
  float most, inverse;
};

struct RowMemory {
  u64 reduce[SAMPLE_WARPS];
  u32 counts[BINS], massLow[BINS], massHigh[BINS];
  union {
    struct { u32 keys[LIST], tokens[LIST], listMasses[LIST]; };
    u64 tops[LIST];
  };
  u32 length;
  // First bin at which the running count or mass reaches a target, what is inside it and before it.
  u32 foundBin, foundInside, foundCount;
  u64 foundMass;
  Cut cut;
};

__device__ __forceinline__ u32 distanceBin(const Scale &scale, float value) {
  return u32(fminf(fmaxf((scale.most - value) * scale.inverse * BINS_PER_UNIT, 0.0f), float(BINS)));
}
__device__ __forceinline__ u32 massOf(const Scale &scale, float value) {
  return u32(expf(-fminf(fmaxf((scale.most - value) * scale.inverse, 0.0f), 100.0f)) * 4294967040.0f + 0.5f);
}

// Bin of a token, BINS when it is outside.
__device__ __forceinline__ u32 binOf(const Scale &scale, const Interval &interval, float value, u32 token) {
  const u32 key = keyOf(value);
  if (key < interval.keyLow || key > interval.keyHigh || token < interval.tokenLow || token > interval.tokenHigh)
    return BINS;
  const u32 offset = interval.by == BY_DISTANCE ? distanceBin(scale, value)
                     : interval.by == BY_KEY    ? interval.keyHigh - key
                                                : token - interval.tokenLow;
  return min(offset / interval.width, u32(BINS));
}

// Smallest key whose distance falls into one of the bins 0..bin.
__device__ inline u32 lowestKey(const Scale &scale, u32 bin) {
  u32 low = keyOf(-SAMPLE_LIMIT), high = keyOf(scale.most); // always in bin 0
  while (low < high) {
    const u32 middle = low + (high - low) / 2;
    if (distanceBin(scale, valueOf(middle)) <= bin) high = middle;
    else low = middle + 1;
  }
  return low;
}

// The part of the interval that falls into a bin, with new bins: by key while several keys are left, then by id.
__device__ inline Interval narrow(const Scale &scale, const Interval &outer, u32 bin) {
  Interval inner = outer;
  if (outer.by == BY_TOKEN) {
    inner.tokenLow = outer.tokenLow + bin * outer.width;
    inner.tokenHigh = min(outer.tokenHigh, inner.tokenLow + outer.width - 1);
  } else {
    if (outer.by == BY_KEY) {
      inner.keyHigh = outer.keyHigh - bin * outer.width;
      inner.keyLow = max(outer.keyLow, inner.keyHigh - min(inner.keyHigh, outer.width - 1));
    } else {
      inner.keyLow = lowestKey(scale, bin);
      if (bin > 0) inner.keyHigh = lowestKey(scale, bin - 1) - 1;
    }
    inner.by = BY_KEY;
    inner.width = (inner.keyHigh - inner.keyLow) / BINS + 1;
  }
  if (inner.keyLow == inner.keyHigh) {
    inner.by = BY_TOKEN;
    inner.width = (inner.tokenHigh - inner.tokenLow) / BINS + 1;
  }
  return inner;
}

// share * total: at least 1, so that the first token always stays, and at most the total.
__device__ __forceinline__ u64 shareOf(u64 total, float share) {
  const u64 wanted = u64(float(total) * fminf(fmaxf(share, 0.0f), 1.0f));
  return min(max(wanted, u64(1)), total);
}

__device__ __forceinline__ void clearHistogram(RowMemory &memory) {
  for (u32 bin = threadIdx.x; bin < BINS; bin += SAMPLE_THREADS) {
    memory.counts[bin] = memory.massLow[bin] = memory.massHigh[bin] = 0;
  }
  __syncthreads();
}

// Counts a token. Additions of 32 bits with a carry: there is none of 64 bits in shared memory.
__device__ __forceinline__ void addToBin(RowMemory &memory, u32 bin, u32 mass, bool masses) {
  atomicAdd(&memory.counts[bin], 1u);
  if (masses && atomicAdd(&memory.massLow[bin], mass) > ~mass) atomicAdd(&memory.massHigh[bin], 1u);
}
__device__ __forceinline__ u64 binMass(const RowMemory &memory, u32 bin) {
  return u64(memory.massHigh[bin]) << 32 | memory.massLow[bin];
}

// How many bins hold every token that the thresholds can leave, less one. `topKBin` is such a bound for top-k.
__device__ __forceinline__ u32 lastBinOf(const SampleRow &row, u32 topKBin, float mass, u32 vocab) {
  const bool useTopK = row.topK > 0, useTopP = row.topP < 1.0f;
  u32 last = BINS - 1;
  if (useTopK) {
    last = topKBin;
  } else if (useTopP) {
    // Tokens of probability below (1 - p) / vocab are together less than 1 - p: none of them is needed.
    const float least = 0.99f * (1.0f - row.topP) / float(vocab) * mass;
    last = u32(-logf(fminf(fmaxf(least, 1e-30f), 1.0f)) * BINS_PER_UNIT) + 1;
  }
  // With both, the tokens that min-p drops still count for the mass that top-p is a share of.
  if (row.minP > 0.0f && !(useTopK && useTopP))
    last = min(last, u32(fminf(fmaxf(-logf(row.minP), 0.0f), 100.0f) * BINS_PER_UNIT) + 1);
  return min(last, u32(BINS - 1));
}

// Where the running count or mass of the histogram reaches `wanted`. The first warp does it: each of its lanes has
// BINS / 32 neighbouring bins.
__device__ inline void findBin(RowMemory &memory, bool byMass, u64 wanted, u32 countBefore, u64 massBefore) {
  __syncthreads();
  if (threadIdx.x < 32) {
    const u32 first = threadIdx.x * (BINS / 32);
    u32 count = 0;
    u64 mass = 0;
    for (u32 bin = first; bin < first + BINS / 32; bin++) {
      count += memory.counts[bin];
      mass += binMass(memory, bin);
    }
    u32 countTo = count;
    u64 massTo = mass;
    for (int step = 1; step < 32; step *= 2) {
      const u32 c = __shfl_up_sync(0xffffffffu, countTo, step);
      const u32 low = __shfl_up_sync(0xffffffffu, u32(massTo), step);
      const u32 high = __shfl_up_sync(0xffffffffu, u32(massTo >> 32), step);
      if (threadIdx.x >= step) {
        countTo += c;
        massTo += u64(high) << 32 | low;
      }
    }
    u32 running = countBefore + countTo - count;
    u64 runningMass = massBefore + massTo - mass;
    const u64 before = byMass ? runningMass : running;
    const u64 after = byMass ? runningMass + mass : u64(running) + count;
    if (threadIdx.x == 31 && after < wanted) {
      memory.foundBin = BINS;
      memory.foundInside = 0;
      memory.foundCount = running + count;
      memory.foundMass = runningMass + mass;
    }
    if (before < wanted && after >= wanted) {
      for (u32 bin = first; bin < first + BINS / 32; bin++) {
        const u32 inside = memory.counts[bin];
        const u64 insideMass = binMass(memory, bin);
        if ((byMass ? runningMass + insideMass : u64(running) + inside) >= wanted) {
          memory.foundBin = bin;
          memory.foundInside = inside;
          memory.foundCount = running;
          memory.foundMass = runningMass;
          break;
        }
        running += inside;
        runningMass += insideMass;
      }
    }
  }
  __syncthreads();
}

// Compares the listed tokens of the interval with each other; the one at which count or mass reaches what is wanted
// becomes the cut.
__device__ inline void rankList(RowMemory &memory, const Scale &scale, const Interval &interval, u32 length, bool byMass,
                                u64 wanted, u32 countBefore, u64 massBefore) {
  __syncthreads();
  for (u32 i = threadIdx.x; i < length; i += SAMPLE_THREADS) {
    const u32 key = memory.keys[i], token = memory.tokens[i];
    if (binOf(scale, interval, valueOf(key), token) >= BINS) continue;
    u32 count = countBefore;
    u64 mass = massBefore;
    for (u32 j = 0; j < length; j++) {
      const u32 other = memory.keys[j], otherToken = memory.tokens[j];
      // What comes before the interval is in countBefore already.
      const bool inside = other <= interval.keyHigh && otherToken >= interval.tokenLow;
      if (inside && (other > key || (other == key && otherToken < token))) {
        count++;
        mass += memory.listMasses[j];
      }
    }
    const u64 with = mass + memory.listMasses[i];
    const u64 before = byMass ? mass : count;
    const u64 after = byMass ? with : u64(count) + 1;
    if (before < wanted && after >= wanted) memory.cut = {key, token, with};
  }
  __syncthreads();
}
