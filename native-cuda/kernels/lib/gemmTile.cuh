// gemm_wgmma: its macros, and the sizes that follow from them.
#pragma once
#include "hopper.cuh"

#ifndef CLUSTER_W
#define CLUSTER_W 1
#endif
#ifndef CLUSTER_T
#define CLUSTER_T 1
#endif
#ifndef GROUPS
#define GROUPS 2
#endif
// CTAs that fit a multiprocessor: with 2, the next launch loads its first weights while this one ends.
#ifndef RESIDENT
#define RESIDENT 1
#endif
// Whether registers are left for 128 threads of another kernel, 80 each.
#ifndef GUEST
#define GUEST 0
#endif
// Registers of a thread when they have moved: of the loading warpgroup, of the others. 0: as many as at launch.
#define LOADER_REGISTERS (GROUPS == 3 ? 24 : 40)
#define REGISTERS (RESIDENT == 2 || GROUPS == 1 ? 0 : GROUPS == 3 ? 160 : GUEST ? 192 : 232)
#if GUEST
#define LAUNCH_LIMITS __maxnreg__(144)
#else
#define LAUNCH_LIMITS __launch_bounds__(CONSUMERS + LOADERS, RESIDENT)
#endif

// What it costs to join the parts of a tile, in steps, and with fair shares (a cluster may leave one part and join another);
// how many parts of tiles a cluster has at most, and of how many steps at least (schedule.ts).
constexpr u32 JOIN_STEPS = 8, FAIR_STEPS = 16, MOST_UNITS = 3, LEAST_STEPS = 4;

constexpr u32 CLUSTER = CLUSTER_W * CLUSTER_T;
constexpr u32 WEIGHTS = GROUPS * 64 * BLOCKS; // weight rows of a tile
constexpr u32 COLUMNS = SILU ? WEIGHTS / 2 : WEIGHTS; // output columns of a tile
constexpr u32 ROW_BYTES = 128; // of a step: 64 elements of K
constexpr u32 WEIGHT_BYTES = WEIGHTS * ROW_BYTES;
constexpr u32 TOKEN_BYTES = TOKENS * ROW_BYTES;
constexpr u32 STAGE_BYTES = WEIGHT_BYTES + TOKEN_BYTES;
constexpr u32 CONSUMERS = GROUPS * 128;
// Small tiles wait for memory, which a part of the clusters keeps busy: fair shares gain nothing there (64 rows: 12 % slower).
constexpr bool FAIR = WEIGHTS * TOKENS >= 128 * 96;
[[maybe_unused]] constexpr u32 LOADERS = REGISTERS > 0 ? 128 : 32; // registers move between whole warpgroups
// Groups of 8 output columns that a warp holds, and bytes in which it turns them (16-bit outputs).
constexpr u32 PIECES = SILU ? BLOCKS : 2 * BLOCKS;
constexpr u32 TURN_BYTES = OUT == F32 ? 0 : 1024;

static_assert(TOKENS % 8 == 0 && TOKENS <= 256, "tokens of a tile");
static_assert(WEIGHTS / CLUSTER_T % 16 == 0 && TOKENS / CLUSTER_W % 8 == 0, "shares of a cluster's CTAs");

// The sums of a thread of the multiplying warpgroups: blocks of 64 weight rows, as wgmma leaves them.
typedef float Sums[BLOCKS][TOKENS / 2];
