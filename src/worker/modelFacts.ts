/** Small facts about a model that are spread over its files. */
import type { ModelConfig } from '../engine/model/config.ts';
import { ModelFileError, readJsonIfPresent, type ModelFiles } from '../engine/model/modelFiles.ts';
import { MAX_END_TOKENS } from '../engine/schedule/request.ts';
import type { ModelSource } from '../protocol.ts';

/** Last part of the path or URL: what clients call the model when nobody named it. */
export function modelName(source: ModelSource): string {
  const place = source.kind === 'directory' ? source.path : urlPath(source.url);
  const last = place.split(/[\\/]/).filter(Boolean).at(-1);
  return last === undefined || /^\.+$/.test(last) ? 'model' : last;
}

function urlPath(url: string): string {
  const { pathname } = new URL(url, 'http://localhost');
  try {
    return decodeURIComponent(pathname);
  } catch {
    return pathname; // a '%' that encodes nothing
  }
}

/**
 * Ids that end a text: config.json's and generation_config.json's (chat models add the end of a turn there).
 * @throws ModelFileError when there are more than a step's metadata has room for
 */
export async function generationEndTokens(files: ModelFiles, config: ModelConfig): Promise<number[]> {
  const generation = (await readJsonIfPresent(files, 'generation_config.json')) as
    { eos_token_id?: number | number[] | null } | null | undefined;
  const more = generation?.eos_token_id ?? [];
  const all = [...new Set([...config.eosTokenIds, ...(Array.isArray(more) ? more : [more])])];
  const ids = all.filter((id) => Number.isInteger(id) && id >= 0 && id < config.vocabSize);
  if (ids.length > MAX_END_TOKENS) {
    throw new ModelFileError(
      `${files.location} names ${ids.length} end-of-sequence tokens in its config files; expected at most ${MAX_END_TOKENS}`,
    );
  }
  return ids;
}
