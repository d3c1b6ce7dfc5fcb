// gemm_wgmma: how tiles, and ranges of K of tiles, are dealt out to clusters.
#pragma once
#include "gemmTile.cuh"

struct Problem {
  u32 steps, tilesW, groupT; // steps of K; tiles are those of clusters
};

// Which part of which tile comes next for a cluster. Every thread of it walks the same list: whole tiles [0, whole),
// then `cut` tiles, each in `parts` ranges of K.
struct Work {
  u32 clusters, steps, tilesT, tilesW, groupT;
  u32 whole, cut, parts;
  u32 unit; // next: a whole tile, or `whole` + part * cut + tile
  // The current one: tile, steps [from, to) of K.
  u32 tile, part, from, to;

  // All threads of a warp: each weighs another way to cut.
  __device__ Work(u32 rows, u32 cluster, u32 clusters, const Problem &problem)
      : clusters(clusters), steps(problem.steps), tilesW(problem.tilesW), groupT(problem.groupT) {
    tilesT = (rows + TOKENS * CLUSTER_T - 1) / (TOKENS * CLUSTER_T);
    const u32 tiles = tilesT * tilesW, waves = tiles / clusters, rest = tiles - waves * clusters;
    whole = tiles;
    cut = 0;
    parts = 1;
    unit = cluster;
    if (SPLIT && rest > 0) {
      const u32 lane = threadIdx.x % 32;
      const u32 tryParts = lane % 16 + 1, tryCut = lane < 16 ? rest : rest + clusters;
      const u32 rounds = (tryCut * tryParts + clusters - 1) / clusters;
      u32 cost = (waves - lane / 16) * steps + rounds * ((steps + tryParts - 1) / tryParts + (tryParts > 1 ? JOIN_STEPS : 0));
      if (lane >= 16 && waves == 0 || tryParts > 1 && (rounds > MOST_UNITS || tryParts * 4 > steps)) cost = 0x3ffffff;
      const u32 best = __reduce_min_sync(0xffffffff, cost << 5 | lane) % 32;
      parts = best % 16 + 1;
      if (parts > 1) {
        cut = best < 16 ? rest : rest + clusters;
        whole = tiles - cut;
      }
    }
  }

  __device__ bool next() {
    if (unit >= whole + cut * parts) return false;
    tile = unit;
    part = 0;
    from = 0;
    to = steps;
    if (SPLIT && unit >= whole) {
      const u32 inCut = unit - whole;
      part = inCut / cut;
      tile = whole + inCut - part * cut;
      from = part * steps / parts;
      to = (part + 1) * steps / parts;
    }
    unit += clusters;
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
