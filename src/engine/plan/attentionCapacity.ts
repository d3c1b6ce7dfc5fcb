/** How large the sections of the attention plan must be, whatever batch comes. */
import { FINEST_SPLIT } from './attentionTiles.ts';
import type { TileRows } from './attentionTiles.ts';

export interface AttentionLimits {
  tokens: number; // most tokens in a dense batch (B)
  requests: number; // most requests in a dense batch
  heads: number;
  kvHeads: number;
  workgroups: number; // largest attention budget
  tiles?: readonly TileRows[]; // tile sizes that the device wants; default both
}

export interface AttentionCapacity {
  items16: number;
  items128: number;
  mergeRows: number;
  partialRows: number; // rows of partialOut [partialRows, D] and partialLse [partialRows]
}

/**
 * Capacities that suffice for every batch within the limits, from the chunk limit's guarantee: with L >= total /
 * (split * workgroups), sum over tiles of ceil(length / L) <= split * workgroups + tiles. A tile is cut only when it
 * is longer than L, so fewer than split * workgroups tiles are cut, and every (token, head) row is in one tile:
 * merged rows <= tokens * heads, partial rows <= rows of a tile * split * workgroups + merged rows.
 */
export function attentionCapacity(limits: AttentionLimits): AttentionCapacity {
  const { tokens, requests, heads, kvHeads, workgroups, tiles = [16, 128] } = limits;
  const group = heads / kvHeads;
  const requestsWithTokens = Math.min(requests, tokens);
  const packed = tokens * group;
  let mergeRows = 0;
  let partialRows = 0;
  const items: Record<TileRows, number> = { 16: 0, 128: 0 };
  for (const tile of tiles) {
    // With both sizes, a request takes 16-row tiles only when one of them holds all of it.
    const fullTiles = tile === 16 && tiles.length > 1 ? 0 : Math.floor(packed / tile);
    const cuts = FINEST_SPLIT[tile] * workgroups;
    const rows = Math.min(tile, packed);
    items[tile] = (fullTiles + requestsWithTokens) * kvHeads + cuts;
    mergeRows += rows * cuts;
    partialRows += rows * cuts;
  }
  mergeRows = Math.min(mergeRows, tokens * heads);
  return { items16: items[16], items128: items[128], mergeRows, partialRows: partialRows + mergeRows };
}
