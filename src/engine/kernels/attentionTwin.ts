/**
 * The slow twin of attention: follows the work items of the plan one by one, partial results included, so that the
 * plan and the merge are held to it too. Also what the cpu device serves with: no allocation for a row.
 */
import { attentionSection, ITEM, ITEM_WORDS } from '../plan/stepMeta.ts';
import { visibleEnd, visibleStart } from '../plan/attentionTiles.ts';
import type { AttentionCall } from './calls.ts';
import type { TwinMemory } from './definition.ts';

/** Log-sum-exp of an empty KV range. */
const EMPTY = -1e30;

let scores = new Float64Array(256);
let kvRows = new Int32Array(256);
const query = new Float64Array(256);
const result = new Float64Array(256);

export function twin(call: AttentionCall, memory: TwinMemory): void {
  const { tile, layout, heads, kvHeads, headDim, pageSize, slidingWindow = 0 } = call;
  const section = attentionSection(layout, call.slot);
  const meta = memory.u32(call.meta);
  const q = memory.f32(call.q);
  const k = memory.f32(call.kCache);
  const v = memory.f32(call.vCache);
  const out = memory.f32(call.out);
  const partialOut = memory.f32(call.partialOut);
  const partialLse = memory.f32(call.partialLse);
  const group = heads / kvHeads;
  const scale = call.scale * Math.LOG2E; // softmax in base 2
  const items = tile === 16 ? section.items16 : section.items128;
  const indptr = tile === 16 ? section.workIndptr16 : section.workIndptr128;
  const count = meta[indptr + layout.capacity.attentionWorkgroups];

  for (let i = 0; i < count; i++) {
    const item = items + i * ITEM_WORDS;
    const request = { qLen: meta[item + ITEM.qLen], kvLen: meta[item + ITEM.kvLen], qStart: 0, pageStart: 0 };
    const kvHead = meta[item + ITEM.kvHead];
    const itemStart = meta[item + ITEM.kvStart];
    const itemEnd = meta[item + ITEM.kvEnd];
    const chunks = meta[item + ITEM.chunkCount];
    const firstRow = meta[item + ITEM.rowStart];
    const rows = Math.min(tile, request.qLen * group - firstRow);
    if (itemEnd - itemStart > scores.length) {
      scores = new Float64Array(2 * (itemEnd - itemStart));
      kvRows = new Int32Array(2 * (itemEnd - itemStart));
    }
    // Where each KV token of the item lies: the first element of its row in kCache and vCache.
    const pages = layout.pages + meta[item + ITEM.pageStart];
    for (let token = itemStart; token < itemEnd; token++) {
      const page = meta[pages + Math.floor(token / pageSize)];
      kvRows[token - itemStart] = ((page * kvHeads + kvHead) * pageSize + (token % pageSize)) * headDim;
    }

    for (let r = 0; r < rows; r++) {
      const token = Math.floor((firstRow + r) / group);
      const head = kvHead * group + ((firstRow + r) % group);
      const outRow = (meta[item + ITEM.qoStart] + token) * heads + head;
      const start = Math.max(visibleStart(request, token, slidingWindow), itemStart) - itemStart;
      const end = Math.min(visibleEnd(request, token), itemEnd) - itemStart;
      for (let d = 0; d < headDim; d++) {
        query[d] = q[outRow * headDim + d] * scale;
        result[d] = 0;
      }
      let largest = EMPTY;
      for (let t = start; t < end; t++) {
        const row = kvRows[t];
        let score = 0;
        for (let d = 0; d < headDim; d++) score += query[d] * k[row + d];
        scores[t] = score;
        if (score > largest) largest = score;
      }
      let sum = 0;
      for (let t = start; t < end; t++) {
        const row = kvRows[t];
        const weight = 2 ** (scores[t] - largest);
        sum += weight;
        for (let d = 0; d < headDim; d++) result[d] += weight * v[row + d];
      }
      const inverse = sum > 0 ? 1 / sum : 0;
      const partial = meta[item + ITEM.partialStart] + r * chunks + meta[item + ITEM.chunkIndex];
      const to = (chunks === 1 ? outRow : partial) * headDim;
      const target = chunks === 1 ? out : partialOut;
      for (let d = 0; d < headDim; d++) target[to + d] = result[d] * inverse;
      if (chunks > 1) partialLse[partial] = sum > 0 ? largest + Math.log2(sum) : EMPTY;
    }
  }
}
