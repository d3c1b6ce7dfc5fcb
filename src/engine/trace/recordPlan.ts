/** The work items of an attention plan (plan/attention.ts) as the trace's plan section. */
import { ATTENTION_COUNT, ITEM, ITEM_WORDS, type AttentionSection } from '../plan/stepMeta.ts';
import type { TraceBuilder } from './builder.ts';

export interface PlanItem {
  wg: number;
  head: number; // KV head
  qStart: number; // first token row of its request
  kvStart: number;
  kvEnd: number;
  /** (query row, KV token) pairs, whole tiles counted. */
  cost: number;
}

/**
 * Adds what planAttention wrote to `words` for one slot. `spanOf`: the span that carries an item out, -1 for none; it is
 * asked in the order in which each workgroup works.
 */
export function recordPlan(
  builder: TraceBuilder,
  section: AttentionSection,
  words: Uint32Array,
  spanOf: (item: PlanItem) => number = () => -1,
): void {
  for (const tile of [16, 128] as const) {
    if (words[section.counts + ATTENTION_COUNT[tile === 16 ? 'items16' : 'items128']] === 0) continue;
    const indptr = tile === 16 ? section.workIndptr16 : section.workIndptr128;
    const items = tile === 16 ? section.items16 : section.items128;
    for (let wg = 0; wg < section.capacity.attentionWorkgroups; wg++) {
      for (let i = words[indptr + wg]; i < words[indptr + wg + 1]; i++) {
        const at = items + i * ITEM_WORDS;
        const kvStart = words[at + ITEM.kvStart];
        const kvEnd = words[at + ITEM.kvEnd];
        const item: PlanItem = {
          wg,
          head: words[at + ITEM.kvHead],
          qStart: words[at + ITEM.qoStart],
          kvStart,
          kvEnd,
          cost: tile * (kvEnd - kvStart),
        };
        builder.planItem({ ...item, span: spanOf(item) });
      }
    }
  }
}
