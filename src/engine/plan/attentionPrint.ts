/** The attention plan as text, for logs and lessons. */
import { COUNT, ITEM, ITEM_WORDS, PARTIAL_NONE } from './stepMeta.ts';
import type { StepMetaLayout } from './stepMeta.ts';

/** One line for each work item, grouped by workgroup, then the merged rows. Reads what planAttention wrote. */
export function printPlan(layout: StepMetaLayout, words: Uint32Array): string {
  const lines: string[] = [];
  for (const tile of [16, 128] as const) {
    const count = words[tile === 16 ? COUNT.tile16Items : COUNT.tile128Items];
    const chunk = words[tile === 16 ? COUNT.chunk16 : COUNT.chunk128];
    lines.push(`${tile}-row tiles: ${count} items, at most ${chunk} KV tokens each`);
    const indptr = tile === 16 ? layout.workIndptr16 : layout.workIndptr128;
    const items = tile === 16 ? layout.items16 : layout.items128;
    for (let workgroup = 0; workgroup < layout.capacity.attentionWorkgroups; workgroup++) {
      for (let i = words[indptr + workgroup]; i < words[indptr + workgroup + 1]; i++) {
        lines.push(`  workgroup ${workgroup}: ${printItem(words, items + i * ITEM_WORDS)}`);
      }
    }
  }
  const rows = words[COUNT.mergeRows];
  lines.push(`merge: ${rows} rows of ${rows === 0 ? 0 : words[layout.mergeIndptr + rows]} partial rows`);
  return lines.join('\n');
}

function printItem(words: Uint32Array, at: number): string {
  const field = (name: keyof typeof ITEM): number => words[at + ITEM[name]];
  const partial = field('partialStart');
  const target =
    partial === PARTIAL_NONE
      ? 'out'
      : `partial ${partial} (chunk ${field('chunkIndex') + 1} of ${field('chunkCount')})`;
  return (
    `tokens from ${field('qoStart')} (q ${field('qLen')}, kv ${field('kvLen')}), packed rows from ${field('rowStart')}, ` +
    `kv head ${field('kvHead')}, kv [${field('kvStart')}, ${field('kvEnd')}) -> ${target}`
  );
}
