/** The attention plan as text, for logs and lessons. */
import { ATTENTION_COUNT, ITEM, ITEM_WORDS, PARTIAL_NONE } from './stepMeta.ts';
import type { AttentionSection } from './stepMeta.ts';

/** One line for each work item, grouped by workgroup, then the merged rows. Reads what planAttention wrote. */
export function printPlan(section: AttentionSection, words: Uint32Array): string {
  const lines: string[] = [];
  const counter = (name: keyof typeof ATTENTION_COUNT): number =>
    words[section.counts + ATTENTION_COUNT[name]];
  for (const tile of [16, 128] as const) {
    const count = counter(tile === 16 ? 'items16' : 'items128');
    const chunk = counter(tile === 16 ? 'chunk16' : 'chunk128');
    lines.push(`${tile}-row tiles: ${count} items, at most ${chunk} KV tokens each`);
    const indptr = tile === 16 ? section.workIndptr16 : section.workIndptr128;
    const items = tile === 16 ? section.items16 : section.items128;
    for (let workgroup = 0; workgroup < section.capacity.attentionWorkgroups; workgroup++) {
      for (let i = words[indptr + workgroup]; i < words[indptr + workgroup + 1]; i++) {
        lines.push(`  workgroup ${workgroup}: ${printItem(words, items + i * ITEM_WORDS)}`);
      }
    }
  }
  const rows = counter('mergeRows');
  const first = words[section.mergeIndptr];
  lines.push(
    `merge: ${rows} rows of ${rows === 0 ? 0 : words[section.mergeIndptr + rows] - first} partial rows`,
  );
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
