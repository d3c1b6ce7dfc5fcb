// wgmma: the matrix instructions of a warpgroup (sm_90a). Accumulators are f32, operands f16 or bf16.
//
// wgmma<T, N>(d, a, b, keep): d[64, N] = a[64, 16] * b[N, 16]^T (+ d when keep), both operands from shared memory
// (descriptors), K innermost. wgmmaRegisters<T, N>(d, a0..a3, b, keep): a from registers, as the accumulators of an
// earlier product lie, packed to pairs. TRANSPOSED_B = 1: b is [16, N], N innermost.
// A thread holds d[4 j + 2 h + e] = row 16 warp + 8 h + lane / 4, column 8 j + 2 (lane % 4) + e.
#pragma once
#include "types.cuh"

template <int T, int N, int TRANSPOSED_B = 0> struct Wgmma;

template <int T, int N, int TRANSPOSED_B = 0>
__device__ __forceinline__ void wgmma(float (&d)[N / 2], u64 a, u64 b, u32 keep) {
  Wgmma<T, N, TRANSPOSED_B>::shared(d, a, b, keep);
}
template <int T, int N, int TRANSPOSED_B = 0>
__device__ __forceinline__ void wgmmaRegisters(float (&d)[N / 2], u32 a0, u32 a1, u32 a2, u32 a3, u64 b, u32 keep) {
  Wgmma<T, N, TRANSPOSED_B>::registers(d, a0, a1, a2, a3, b, keep);
}

__device__ __forceinline__ void wgmmaFence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmmaCommit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int PENDING> __device__ __forceinline__ void wgmmaWait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}
// Keeps the compiler from moving reads and writes of accumulators over asynchronous instructions.
template <int COUNT> __device__ __forceinline__ void wgmmaKeep(float (&d)[COUNT]) {
#pragma unroll
  for (int i = 0; i < COUNT; i++) asm volatile("" : "+f"(d[i])::"memory");
}

// Names of operands 4 j .. 4 j + 3, and the accumulators they stand for.
#define W_NAMES_0 "%0, %1, %2, %3"
#define W_NAMES_1 ", %4, %5, %6, %7"
#define W_NAMES_2 ", %8, %9, %10, %11"
#define W_NAMES_3 ", %12, %13, %14, %15"
#define W_NAMES_4 ", %16, %17, %18, %19"
#define W_NAMES_5 ", %20, %21, %22, %23"
#define W_NAMES_6 ", %24, %25, %26, %27"
#define W_NAMES_7 ", %28, %29, %30, %31"
#define W_NAMES_8 ", %32, %33, %34, %35"
#define W_NAMES_9 ", %36, %37, %38, %39"
#define W_NAMES_10 ", %40, %41, %42, %43"
#define W_NAMES_11 ", %44, %45, %46, %47"
#define W_NAMES_12 ", %48, %49, %50, %51"
#define W_NAMES_13 ", %52, %53, %54, %55"
#define W_NAMES_14 ", %56, %57, %58, %59"
#define W_NAMES_15 ", %60, %61, %62, %63"
#define W_NAMES_16 ", %64, %65, %66, %67"
#define W_NAMES_17 ", %68, %69, %70, %71"
#define W_NAMES_18 ", %72, %73, %74, %75"
#define W_NAMES_19 ", %76, %77, %78, %79"
#define W_NAMES_20 ", %80, %81, %82, %83"
#define W_NAMES_21 ", %84, %85, %86, %87"
#define W_NAMES_22 ", %88, %89, %90, %91"
#define W_NAMES_23 ", %92, %93, %94, %95"
#define W_NAMES_24 ", %96, %97, %98, %99"
#define W_NAMES_25 ", %100, %101, %102, %103"
#define W_NAMES_26 ", %104, %105, %106, %107"
#define W_NAMES_27 ", %108, %109, %110, %111"
#define W_NAMES_28 ", %112, %113, %114, %115"
#define W_NAMES_29 ", %116, %117, %118, %119"
#define W_NAMES_30 ", %120, %121, %122, %123"
#define W_NAMES_31 ", %124, %125, %126, %127"
#define W_NAMES_32 ", %128, %129, %130, %131"
#define W_NAMES_33 ", %132, %133, %134, %135"
#define W_NAMES_34 ", %136, %137, %138, %139"
#define W_NAMES_35 ", %140, %141, %142, %143"
#define W_NAMES_36 ", %144, %145, %146, %147"
#define W_NAMES_37 ", %148, %149, %150, %151"
#define W_NAMES_38 ", %152, %153, %154, %155"
#define W_NAMES_39 ", %156, %157, %158, %159"
#define W_NAMES_40 ", %160, %161, %162, %163"
#define W_NAMES_41 ", %164, %165, %166, %167"
#define W_NAMES_42 ", %168, %169, %170, %171"
#define W_NAMES_43 ", %172, %173, %174, %175"
#define W_NAMES_44 ", %176, %177, %178, %179"
#define W_NAMES_45 ", %180, %181, %182, %183"
#define W_NAMES_46 ", %184, %185, %186, %187"
#define W_NAMES_47 ", %188, %189, %190, %191"
#define W_NAMES_48 ", %192, %193, %194, %195"
#define W_NAMES_49 ", %196, %197, %198, %199"
#define W_NAMES_50 ", %200, %201, %202, %203"
#define W_NAMES_51 ", %204, %205, %206, %207"
#define W_NAMES_52 ", %208, %209, %210, %211"
#define W_NAMES_53 ", %212, %213, %214, %215"
#define W_NAMES_54 ", %216, %217, %218, %219"
#define W_NAMES_55 ", %220, %221, %222, %223"
#define W_NAMES_56 ", %224, %225, %226, %227"
#define W_NAMES_57 ", %228, %229, %230, %231"
#define W_NAMES_58 ", %232, %233, %234, %235"
#define W_NAMES_59 ", %236, %237, %238, %239"
#define W_NAMES_60 ", %240, %241, %242, %243"
#define W_NAMES_61 ", %244, %245, %246, %247"
#define W_NAMES_62 ", %248, %249, %250, %251"
#define W_NAMES_63 ", %252, %253, %254, %255"
#define W_VALUES(j) "+f"(d[4 * j]), "+f"(d[4 * j + 1]), "+f"(d[4 * j + 2]), "+f"(d[4 * j + 3])
// The first n8 columns: names and values of their accumulators.
#define W_ALL_NAMES_1 W_NAMES_0
#define W_ALL_VALUES_1 W_VALUES(0)
#define W_ALL_NAMES_2 W_ALL_NAMES_1 W_NAMES_1
#define W_ALL_VALUES_2 W_ALL_VALUES_1, W_VALUES(1)
#define W_ALL_NAMES_3 W_ALL_NAMES_2 W_NAMES_2
#define W_ALL_VALUES_3 W_ALL_VALUES_2, W_VALUES(2)
#define W_ALL_NAMES_4 W_ALL_NAMES_3 W_NAMES_3
#define W_ALL_VALUES_4 W_ALL_VALUES_3, W_VALUES(3)
#define W_ALL_NAMES_5 W_ALL_NAMES_4 W_NAMES_4
#define W_ALL_VALUES_5 W_ALL_VALUES_4, W_VALUES(4)
#define W_ALL_NAMES_6 W_ALL_NAMES_5 W_NAMES_5
#define W_ALL_VALUES_6 W_ALL_VALUES_5, W_VALUES(5)
#define W_ALL_NAMES_7 W_ALL_NAMES_6 W_NAMES_6
#define W_ALL_VALUES_7 W_ALL_VALUES_6, W_VALUES(6)
#define W_ALL_NAMES_8 W_ALL_NAMES_7 W_NAMES_7
#define W_ALL_VALUES_8 W_ALL_VALUES_7, W_VALUES(7)
#define W_ALL_NAMES_9 W_ALL_NAMES_8 W_NAMES_8
#define W_ALL_VALUES_9 W_ALL_VALUES_8, W_VALUES(8)
#define W_ALL_NAMES_10 W_ALL_NAMES_9 W_NAMES_9
#define W_ALL_VALUES_10 W_ALL_VALUES_9, W_VALUES(9)
#define W_ALL_NAMES_11 W_ALL_NAMES_10 W_NAMES_10
#define W_ALL_VALUES_11 W_ALL_VALUES_10, W_VALUES(10)
#define W_ALL_NAMES_12 W_ALL_NAMES_11 W_NAMES_11
#define W_ALL_VALUES_12 W_ALL_VALUES_11, W_VALUES(11)
#define W_ALL_NAMES_13 W_ALL_NAMES_12 W_NAMES_12
#define W_ALL_VALUES_13 W_ALL_VALUES_12, W_VALUES(12)
#define W_ALL_NAMES_14 W_ALL_NAMES_13 W_NAMES_13
#define W_ALL_VALUES_14 W_ALL_VALUES_13, W_VALUES(13)
#define W_ALL_NAMES_15 W_ALL_NAMES_14 W_NAMES_14
#define W_ALL_VALUES_15 W_ALL_VALUES_14, W_VALUES(14)
#define W_ALL_NAMES_16 W_ALL_NAMES_15 W_NAMES_15
#define W_ALL_VALUES_16 W_ALL_VALUES_15, W_VALUES(15)
#define W_ALL_NAMES_18 W_ALL_NAMES_16 W_NAMES_16 W_NAMES_17
#define W_ALL_VALUES_18 W_ALL_VALUES_16, W_VALUES(16), W_VALUES(17)
#define W_ALL_NAMES_20 W_ALL_NAMES_18 W_NAMES_18 W_NAMES_19
#define W_ALL_VALUES_20 W_ALL_VALUES_18, W_VALUES(18), W_VALUES(19)
#define W_ALL_NAMES_22 W_ALL_NAMES_20 W_NAMES_20 W_NAMES_21
#define W_ALL_VALUES_22 W_ALL_VALUES_20, W_VALUES(20), W_VALUES(21)
#define W_ALL_NAMES_24 W_ALL_NAMES_22 W_NAMES_22 W_NAMES_23
#define W_ALL_VALUES_24 W_ALL_VALUES_22, W_VALUES(22), W_VALUES(23)
#define W_ALL_NAMES_26 W_ALL_NAMES_24 W_NAMES_24 W_NAMES_25
#define W_ALL_VALUES_26 W_ALL_VALUES_24, W_VALUES(24), W_VALUES(25)
#define W_ALL_NAMES_28 W_ALL_NAMES_26 W_NAMES_26 W_NAMES_27
#define W_ALL_VALUES_28 W_ALL_VALUES_26, W_VALUES(26), W_VALUES(27)
#define W_ALL_NAMES_30 W_ALL_NAMES_28 W_NAMES_28 W_NAMES_29
#define W_ALL_VALUES_30 W_ALL_VALUES_28, W_VALUES(28), W_VALUES(29)
#define W_ALL_NAMES_32 W_ALL_NAMES_30 W_NAMES_30 W_NAMES_31
#define W_ALL_VALUES_32 W_ALL_VALUES_30, W_VALUES(30), W_VALUES(31)

// N, and the names of the operands behind the accumulators: numbers N / 2 and following.
#define W_DEFINE(TYPE, TYPE_NAME, N, N8, A, B, C, D, E, F)                                                            \
  template <int TRANSPOSED_B> struct Wgmma<TYPE, N, TRANSPOSED_B> {                                                    \
    static __device__ __forceinline__ void shared(float (&d)[N / 2], u64 a, u64 b, u32 keep) {                         \
      asm volatile("{ .reg .pred p; setp.ne.b32 p, %" C ", 0; wgmma.mma_async.sync.aligned.m64n" #N                    \
                   "k16.f32." TYPE_NAME "." TYPE_NAME " {" W_ALL_NAMES_##N8 "}, %" A ", %" B ", p, 1, 1, 0, %" D "; }" \
                   : W_ALL_VALUES_##N8                                                                                 \
                   : "l"(a), "l"(b), "r"(keep), "n"(TRANSPOSED_B));                                                    \
    }                                                                                                                  \
    static __device__ __forceinline__ void registers(float (&d)[N / 2], u32 a0, u32 a1, u32 a2, u32 a3, u64 b,         \
                                                     u32 keep) {                                                       \
      asm volatile("{ .reg .pred p; setp.ne.b32 p, %" F ", 0; wgmma.mma_async.sync.aligned.m64n" #N                    \
                   "k16.f32." TYPE_NAME "." TYPE_NAME " {" W_ALL_NAMES_##N8 "}, {%" A ", %" B ", %" C ", %" D "}, %" E \
                   ", p, 1, 1, %" W_LAST_##N8 "; }"                                                                    \
                   : W_ALL_VALUES_##N8                                                                                 \
                   : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b), "r"(keep), "n"(TRANSPOSED_B));                        \
    }                                                                                                                  \
  };
#define W_LAST_1 "10"
#define W_LAST_2 "14"
#define W_LAST_3 "18"
#define W_LAST_4 "22"
#define W_LAST_5 "26"
#define W_LAST_6 "30"
#define W_LAST_7 "34"
#define W_LAST_8 "38"
#define W_LAST_9 "42"
#define W_LAST_10 "46"
#define W_LAST_11 "50"
#define W_LAST_12 "54"
#define W_LAST_13 "58"
#define W_LAST_14 "62"
#define W_LAST_15 "66"
#define W_LAST_16 "70"
#define W_LAST_18 "78"
#define W_LAST_20 "86"
#define W_LAST_22 "94"
#define W_LAST_24 "102"
#define W_LAST_26 "110"
#define W_LAST_28 "118"
#define W_LAST_30 "126"
#define W_LAST_32 "134"
#define W_BOTH(N, N8, A, B, C, D, E, F)            \
  W_DEFINE(F16, "f16", N, N8, A, B, C, D, E, F) \
  W_DEFINE(BF16, "bf16", N, N8, A, B, C, D, E, F)
W_BOTH(8, 1, "4", "5", "6", "7", "8", "9")
W_BOTH(16, 2, "8", "9", "10", "11", "12", "13")
W_BOTH(24, 3, "12", "13", "14", "15", "16", "17")
W_BOTH(32, 4, "16", "17", "18", "19", "20", "21")
W_BOTH(40, 5, "20", "21", "22", "23", "24", "25")
W_BOTH(48, 6, "24", "25", "26", "27", "28", "29")
W_BOTH(56, 7, "28", "29", "30", "31", "32", "33")
W_BOTH(64, 8, "32", "33", "34", "35", "36", "37")
W_BOTH(72, 9, "36", "37", "38", "39", "40", "41")
W_BOTH(80, 10, "40", "41", "42", "43", "44", "45")
W_BOTH(88, 11, "44", "45", "46", "47", "48", "49")
W_BOTH(96, 12, "48", "49", "50", "51", "52", "53")
W_BOTH(104, 13, "52", "53", "54", "55", "56", "57")
W_BOTH(112, 14, "56", "57", "58", "59", "60", "61")
W_BOTH(120, 15, "60", "61", "62", "63", "64", "65")
W_BOTH(128, 16, "64", "65", "66", "67", "68", "69")
W_BOTH(144, 18, "72", "73", "74", "75", "76", "77")
W_BOTH(160, 20, "80", "81", "82", "83", "84", "85")
W_BOTH(176, 22, "88", "89", "90", "91", "92", "93")
W_BOTH(192, 24, "96", "97", "98", "99", "100", "101")
W_BOTH(208, 26, "104", "105", "106", "107", "108", "109")
W_BOTH(224, 28, "112", "113", "114", "115", "116", "117")
W_BOTH(240, 30, "120", "121", "122", "123", "124", "125")
W_BOTH(256, 32, "128", "129", "130", "131", "132", "133")
