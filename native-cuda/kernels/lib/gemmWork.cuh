// gemm_wgmma: how tiles, and ranges of K of tiles, are dealt out to clusters.
#pragma once
#include "gemmTile.cuh"

struct Problem {
  u32 steps, tilesW, groupT; // steps of K; tiles are those of clusters
};

// Which part of which tile comes next for a cluster. Every thread of it walks the same list: whole tiles [0, whole), then
// what it has of `cut` tiles: each in `ways` ranges of K that are dealt out in turn; or with ways = 0 in fair shares: the
// tiles' steps, one after the other, in as many equal runs as there are clusters (Stream-K after whole waves; Osama et
// al., PPoPP 2023).
struct Work {
  u32 clusters, steps, tilesT, tilesW, groupT;
  u32 whole, cut, ways;
  // Next: a whole tile; `whole` + part * cut + tile; of shares `whole` + cluster, and + clusters for the second piece.
  u32 unit;
  // The current one: tile, which of its parts, steps [from, to) of K.
  u32 tile, part, parts, from, to;

  // All threads of a warp: each weighs another way to cut.
  __device__ Work(u32 rows, u32 cluster, u32 clusters, const Problem &problem)
      : clusters(clusters), steps(problem.steps), tilesW(problem.tilesW), groupT(problem.groupT) {
    tilesT = (rows + TOKENS * CLUSTER_T - 1) / (TOKENS * CLUSTER_T);
    const u32 tiles = tilesT * tilesW, waves = tiles / clusters, rest = tiles - waves * clusters;
    whole = tiles;
    cut = 0;
    ways = 1;
    unit = cluster;
    if (SPLIT && rest > 0) {
      constexpr u32 NEVER = 0x3ffffff, SHARES = 16; // lane 0 stands for "not cut", 16 for fair shares
      const u32 lane = threadIdx.x % 32;
      const u32 tryWays = lane % 16 + 1, tryCut = lane < 16 ? rest : rest + clusters;
      const u32 rounds = (tryCut * tryWays + clusters - 1) / clusters;
      u32 cost = (waves - lane / 16) * steps + rounds * ((steps + tryWays - 1) / tryWays + (tryWays > 1 ? JOIN_STEPS : 0));
      if (lane >= 16 && waves == 0 || tryWays > 1 && (rounds > MOST_UNITS || tryWays * LEAST_STEPS > steps)) cost = NEVER;
      if (lane == SHARES) {
        const u32 share = rest * steps / clusters;
        cost = !FAIR || share < 2 * LEAST_STEPS || clusters > 15 * rest ? NEVER : waves * steps + share + FAIR_STEPS;
      }
      const u32 best = __reduce_min_sync(0xffffffff, cost << 5 | lane) % 32;
      ways = best == SHARES ? 0 : best % 16 + 1;
      if (ways != 1) {
        cut = best <= SHARES ? rest : rest + clusters;
        whole = tiles - cut;
      }
    }
  }

  __device__ bool next() {
    if (unit >= whole + (FAIR && ways == 0 ? 2 * clusters : cut * ways)) return false;
    if (SPLIT && FAIR && unit >= whole && ways == 0) return nextOfShare();
    tile = unit;
    part = 0;
    parts = 1;
    from = 0;
    to = steps;
    if (SPLIT && unit >= whole) {
      const u32 inCut = unit - whole;
      parts = ways;
      part = inCut / cut;
      tile = whole + inCut - part * cut;
      from = part * steps / parts;
      to = (part + 1) * steps / parts;
    }
    unit += clusters;
    return true;
  }

  // Where a cluster's share begins, in steps of the cut tiles; not within a few steps of the end of a tile.
  __device__ u32 shareOf(u32 cluster) const {
    const u32 at = cluster * (cut * steps) / clusters, inTile = at % steps;
    return inTile < LEAST_STEPS ? at - inTile : inTile > steps - LEAST_STEPS ? at - inTile + steps : at;
  }

  // A share has steps of one tile or of two. The first steps of the later one go first: whoever has the last steps of a
  // tile waits for the others, which have theirs ready by then.
  __device__ bool nextOfShare() {
    const bool second = unit - whole >= clusters;
    const u32 cluster = unit - whole - (second ? clusters : 0), begin = shareOf(cluster), end = shareOf(cluster + 1);
    if (begin == end) return false;
    u32 at = begin / steps; // of the cut tiles
    if (!second && end > (at + 1) * steps) {
      at++;
      from = 0;
      to = end - at * steps;
      unit += clusters;
    } else {
      from = begin - at * steps;
      to = min(end - at * steps, steps);
      unit = whole + 2 * clusters;
    }
    tile = whole + at;
    // Clusters [first, last) have steps of the tile: as without rounding, but for a neighbour that it left nothing.
    u32 first = at * clusters / cut, last = ((at + 1) * clusters + cut - 1) / cut;
    if (shareOf(first + 1) <= at * steps) first++;
    if (shareOf(last - 1) >= (at + 1) * steps) last--;
    part = cluster - first;
    parts = last - first;
    return true;
  }

  __device__ bool isPart() const { return to - from < steps; }
  // Where the current tile is. Tiles run along tokens within groups of groupT, then along weights, so that the tiles at
  // work at one time share operands in L2.
  __device__ void place(u32 &tileT, u32 &tileW) const {
    u32 perGroup = groupT * tilesW, group = tile / perGroup, inGroup = tile - group * perGroup;
    u32 size = min(groupT, tilesT - group * groupT);
    tileW = inGroup / size;
    tileT = group * groupT + inGroup - tileW * size;
  }
};
