/** Cuts the requests of a dense batch at the boundaries of a nano-batch. */
import type { AttentionRequest } from './attentionTiles.ts';

/**
 * The parts of `requests` within token rows [start, end). A request that a boundary cuts becomes one with fewer rows:
 * rows behind the cut, and the KV tokens that only they see, are left out, so each row sees exactly what it saw
 * before. qStart stays a row of the whole batch. Requests without rows in the range are dropped.
 */
export function sliceRequests(
  requests: readonly AttentionRequest[],
  start: number,
  end: number,
): AttentionRequest[] {
  const slices: AttentionRequest[] = [];
  for (const { qStart, qLen, kvLen, pageStart } of requests) {
    const first = Math.max(qStart, start);
    const last = Math.min(qStart + qLen, end);
    if (last <= first) continue;
    // With more rows than KV tokens, the rows in front may see nothing at all.
    const seen = Math.max(0, kvLen - (qStart + qLen - last));
    slices.push({ qStart: first, qLen: last - first, kvLen: seen, pageStart });
  }
  return slices;
}
