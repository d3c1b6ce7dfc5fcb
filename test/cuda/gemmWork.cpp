// How gemm_wgmma deals out its work, on the host: the text of `struct Work` (native-cuda/kernels/lib/gemmWork.cuh) stands
// in for WORK. Walks the lists of all clusters for random problems and checks what products rely on; prints how each is cut
// (tiles, clusters, steps, cut, ways), then "ok", or what is wrong. Argument: how many problems.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <vector>

typedef uint32_t u32;
using std::min;
#define __device__

// One tile of tokens, so that tiles are tilesT * tilesW = rows * tilesW.
constexpr u32 TOKENS = 1, CLUSTER_T = 1;
constexpr bool SPLIT = true, FAIR = true;
CONSTANTS
struct Problem {
  u32 steps, tilesW, groupT;
};

// A warp, one lane after the other: the reduction asks for the cost of each, which the constructor computes again.
static struct {
  u32 x;
} threadIdx;
static u32 leastOf, gathering;
static u32 __reduce_min_sync(u32, u32 value) {
  if (gathering) leastOf = min(leastOf, value);
  return leastOf;
}

WORK

static Work workOf(u32 tiles, u32 cluster, u32 clusters, Problem problem) {
  gathering = 1, leastOf = ~0u;
  for (threadIdx.x = 0; threadIdx.x < 32; threadIdx.x++) Work(tiles, cluster, clusters, problem);
  gathering = 0, threadIdx.x = 0;
  return Work(tiles, cluster, clusters, problem);
}

#define CHECK(condition)                                                                                               \
  if (!(condition)) {                                                                                                  \
    printf("%s: %u tiles of %u steps on %u clusters, ways %u\n", #condition, tiles, steps, clusters, work.ways);       \
    exit(1);                                                                                                           \
  }

int main(int, char **argv) {
  for (int problem = atoi(argv[1]); problem > 0; problem--) {
    const u32 clusters = 1 + rand() % 132, tiles = rand() % (4 * clusters + 3), steps = 1 + rand() % (problem % 2 ? 300 : 80);
    std::vector<u32> seen(tiles * steps);
    std::map<u32, std::vector<std::array<u32, 4>>> partsOf; // part, parts, from, to
    Work work = workOf(tiles, 0, clusters, {steps, 1, 1});
    const u32 ways = work.ways;
    printf("%u %u %u %u %u\n", tiles, clusters, steps, work.cut, ways);
    for (u32 cluster = 0; cluster < clusters; cluster++) {
      work = workOf(tiles, cluster, clusters, {steps, 1, 1});
      CHECK(work.ways == ways);
      u32 cutUnits = 0, before = 0;
      while (work.next()) {
        CHECK(work.tile < tiles && work.from < work.to && work.to <= steps);
        for (u32 step = work.from; step < work.to; step++) seen[work.tile * steps + step]++;
        if (!work.isPart()) {
          CHECK(work.parts == 1);
          continue;
        }
        partsOf[work.tile].push_back({work.part, work.parts, work.from, work.to});
        CHECK(++cutUnits <= MOST_UNITS);
        // Scratch has room for that many.
        CHECK(work.part * work.cut + (work.tile - work.whole) < MOST_UNITS * clusters);
        // Who waits for the other parts of a tile has nothing left that somebody waits for.
        CHECK(ways != 0 || !before || work.part + 1 == work.parts);
        before = 1;
      }
    }
    for (u32 count : seen) CHECK(count == 1);
    for (auto &[tile, list] : partsOf) {
      std::sort(list.begin(), list.end());
      for (u32 i = 0; i < list.size(); i++) {
        CHECK(list[i][0] == i && list[i][1] == list.size());
        CHECK(list[i][2] == (i > 0 ? list[i - 1][3] : 0)); // in the order of K
      }
    }
  }
  puts("ok");
}
