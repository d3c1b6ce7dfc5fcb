// What every kernel needs: storage types, conversions, the step metadata, programmatic dependent launch.
//
// Kernels include only files of this folder, never headers of the CUDA toolkit: so NVRTC can compile them on machines
// that have a driver and nothing else. A kernel is specialised by macros alone (-DNAME=value).
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

// Storage types, as values of macros: -DOUT=BF16.
#define F32 0
#define F16 1
#define BF16 2
#define U32 3

// A tensor in memory: elements of storage type T.
template <int T> struct Stored;
template <> struct Stored<F32> { typedef float type; };
template <> struct Stored<F16> { struct type { u16 bits; }; };
template <> struct Stored<BF16> { struct type { u16 bits; }; };
template <> struct Stored<U32> { typedef u32 type; };
template <int T> using stored = typename Stored<T>::type;

typedef stored<F16> f16;
typedef stored<BF16> bf16;

__device__ __forceinline__ float toFloat(float value) { return value; }
__device__ __forceinline__ float toFloat(bf16 value) { return __uint_as_float(u32(value.bits) << 16); }
__device__ __forceinline__ float toFloat(f16 value) {
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
  return result;
}

template <int T> __device__ __forceinline__ stored<T> fromFloat(float value);
template <> __device__ __forceinline__ float fromFloat<F32>(float value) { return value; }
template <> __device__ __forceinline__ bf16 fromFloat<BF16>(float value) {
  bf16 result;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
  return result;
}
template <> __device__ __forceinline__ f16 fromFloat<F16>(float value) {
  f16 result;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
  return result;
}

// Two floats as one word of two 16-bit elements; `low` has the lower address.
template <int T> __device__ __forceinline__ u32 packPair(float low, float high) {
  u32 result;
  if (T == BF16) asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
  else asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
  return result;
}
template <int T> __device__ __forceinline__ float2 unpackPair(u32 pair) {
  stored<T> low, high;
  low.bits = u16(pair);
  high.bits = u16(pair >> 16);
  return make_float2(toFloat(low), toFloat(high));
}

// A tensor map (cuTensorMapEncodeTiled), a parameter `const __grid_constant__ TensorMap`.
struct alignas(64) TensorMap { u64 words[16]; };

// Programmatic dependent launch. Nothing that another launch writes or reads may be touched before waitForEarlier();
// weights may. letNextStart() allows the next launch to take the places that this one leaves free. It comes after
// waitForEarlier(): else a chain of launches starts at once, and what the last of them prefetches slows down the first
// (a step of Llama-3-8B for one stream took 6.9 ms instead of 6.0).
#if __CUDA_ARCH__ >= 900
__device__ __forceinline__ void waitForEarlier() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
__device__ __forceinline__ void letNextStart() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }
#else
__device__ __forceinline__ void waitForEarlier() {}
__device__ __forceinline__ void letNextStart() {}
#endif

// The rows [first, end) of a call: two words of the metadata (plan/stepMeta.ts: rangeWord), at most `capacity`.
struct Rows { u32 first, end; };
__device__ __forceinline__ Rows rowsOf(const u32 *meta, u32 rangeWord, u32 capacity) {
  u32 end = min(meta[rangeWord + 1], capacity);
  return {min(meta[rangeWord], end), end};
}

// Addresses within shared memory are u32 numbers.
__device__ __forceinline__ u32 sharedAddress(const void *pointer) { return u32(__cvta_generic_to_shared(pointer)); }
