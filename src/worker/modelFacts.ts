/** Small facts about a model that are spread over its files. */
import type { ModelConfig } from '../engine/model/config.ts';
import { readJsonIfPresent, type ModelFiles } from '../engine/model/modelFiles.ts';
import type { ModelSource } from '../protocol.ts';

/** Last part of the path or URL: what clients call the model when nobody named it. */
export function modelName(source: ModelSource): string {
  const place = source.kind === 'directory' ? source.path : new URL(source.url, 'http://localhost').pathname;
  return place.split(/[\\/]/).filter(Boolean).at(-1) ?? 'model';
}

/** Ids that end a text: generation_config.json's where it has them (chat models add theirs there), else config.json's. */
export async function generationEndTokens(files: ModelFiles, config: ModelConfig): Promise<number[]> {
  const generation = (await readJsonIfPresent(files, 'generation_config.json')) as
    { eos_token_id?: number | number[] | null } | undefined;
  const ids = generation?.eos_token_id ?? undefined;
  const all = [...config.eosTokenIds, ...(ids === undefined ? [] : Array.isArray(ids) ? ids : [ids])];
  return [...new Set(all)].filter((id) => Number.isInteger(id) && id >= 0 && id < config.vocabSize);
}
