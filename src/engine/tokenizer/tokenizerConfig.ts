/** tokenizer_config.json: the special tokens by role. Does not load the tokenizer. */

import { readJsonIfPresent, type ModelFiles } from '../model/modelFiles.ts';

/** bos_token, eos_token, unk_token, pad_token: what chat templates refer to. */
export type SpecialTokens = Readonly<Record<string, string>>;

/** tokenizer_config.json with what special_tokens_map.json adds to it. */
export async function readTokenizerConfig(files: ModelFiles): Promise<Readonly<Record<string, unknown>>> {
  const map = (await readJsonIfPresent(files, 'special_tokens_map.json')) ?? {};
  const config = (await readJsonIfPresent(files, 'tokenizer_config.json')) ?? {};
  return { ...(map as object), ...(config as object) };
}

/** Each *_token of a tokenizer_config.json as text; it is written as text or as {content: text}. */
export function specialTokens(tokenizerConfig: unknown): SpecialTokens {
  const found: Record<string, string> = {};
  for (const [key, value] of Object.entries(tokenizerConfig ?? {})) {
    const text =
      typeof value === 'object' && value !== null ? (value as { content?: unknown }).content : value;
    if (key.endsWith('_token') && typeof text === 'string') found[key] = text;
  }
  return found;
}
