// Loads and stores of N neighbouring elements of a storage type, as floats: 16 bytes at a time where N allows. The
// address must be a multiple of N elements (of 16 bytes at most).
#pragma once
#include "lib/types.cuh"

// Threads that a multiprocessor can hold: launch bounds by it let streaming kernels fill the machine.
#if __CUDA_ARCH__ == 860 || __CUDA_ARCH__ == 870 || __CUDA_ARCH__ == 890 || __CUDA_ARCH__ >= 1200
#define RESIDENT_THREADS 1536
#else
#define RESIDENT_THREADS 2048
#endif

template <int BYTES> struct Word;
template <> struct Word<2> { typedef u16 type; };
template <> struct Word<4> { typedef u32 type; };
template <> struct Word<8> { typedef uint2 type; };
template <> struct Word<16> { typedef uint4 type; };

// N elements as they lie in memory.
template <int T, int N> struct Elements {
  static constexpr int BYTES = int(sizeof(stored<T>)) * N;
  static constexpr int STEP = BYTES < 16 ? BYTES : 16;
  static constexpr int WORDS = BYTES / STEP;
  typedef typename Word<STEP>::type word;
  union {
    word words[WORDS];
    stored<T> values[N];
  };
  __device__ __forceinline__ Elements() {}
};

template <int T, int N>
__device__ __forceinline__ void loadFloats(const stored<T> *from, float (&values)[N]) {
  Elements<T, N> raw;
  auto words = reinterpret_cast<const typename Elements<T, N>::word *>(from);
#pragma unroll
  for (int i = 0; i < Elements<T, N>::WORDS; i++) raw.words[i] = words[i];
#pragma unroll
  for (int i = 0; i < N; i++) values[i] = toFloat(raw.values[i]);
}

template <int T, int N>
__device__ __forceinline__ void storeFloats(stored<T> *to, const float (&values)[N]) {
  Elements<T, N> raw;
#pragma unroll
  for (int i = 0; i < N; i++) raw.values[i] = fromFloat<T>(values[i]);
  auto words = reinterpret_cast<typename Elements<T, N>::word *>(to);
#pragma unroll
  for (int i = 0; i < Elements<T, N>::WORDS; i++) words[i] = raw.words[i];
}

// x * sigmoid(x).
__device__ __forceinline__ float silu(float x) { return x / (1.0f + __expf(-x)); }
