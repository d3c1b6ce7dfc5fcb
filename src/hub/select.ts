/** Which files of a repository are a model: configuration, tokenizer and safetensors; never code or pickles. Pure. */

import { HubError } from './repo.ts';

/** A file as the hub lists it. */
export interface HubFile {
  readonly path: string;
  readonly size: number; // bytes
  /** Hash of the content: sha256 for large files, git's blob hash for those that git holds itself. */
  readonly hash: { readonly kind: 'sha256' | 'git'; readonly hex: string };
}

const REQUIRED = ['config.json', 'tokenizer.json'];
const OPTIONAL = [
  'generation_config.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'chat_template.jinja',
  'chat_template.json',
  'additional_chat_templates/tool_use.jinja',
];
const SINGLE = 'model.safetensors';
export const WEIGHT_INDEX = 'model.safetensors.index.json';

export interface Selection {
  /** Small files, with the weight index where there is one. */
  readonly texts: readonly HubFile[];
  /** The single weight file; undefined: the index lists the shards. */
  readonly weights: HubFile | undefined;
}

/** @throws HubError when the repository is no model that can be loaded */
export function selectFiles(repo: string, listed: ReadonlyMap<string, HubFile>): Selection {
  for (const name of REQUIRED) {
    if (!listed.has(name)) {
      const hint = name === 'tokenizer.json' ? ' (a "fast" tokenizer)' : '';
      throw new HubError(
        `${repo} has no ${name}${hint}; expected a transformers model with ${REQUIRED.join(' and ')}`,
      );
    }
  }
  const weights = listed.get(SINGLE);
  if (!weights && !listed.has(WEIGHT_INDEX)) {
    throw new HubError(
      `${repo} has neither ${SINGLE} nor ${WEIGHT_INDEX}; only safetensors weights are read (no .bin, .pt, .gguf)`,
    );
  }
  const names = [...REQUIRED, ...OPTIONAL, ...(weights ? [] : [WEIGHT_INDEX])];
  return { texts: names.map((name) => listed.get(name)).filter((file) => file !== undefined), weights };
}

/** The shards that a weight index lists. @throws HubError when it lists anything but .safetensors of the same folder */
export function selectShards(repo: string, index: unknown, listed: ReadonlyMap<string, HubFile>): HubFile[] {
  const map = (index as { weight_map?: unknown } | null)?.weight_map;
  if (typeof map !== 'object' || map === null)
    throw new HubError(`${WEIGHT_INDEX} of ${repo} has no weight_map`);
  return [...new Set(Object.values(map))].toSorted().map((name: unknown) => {
    if (typeof name !== 'string' || !/^[A-Za-z0-9][\w.-]*\.safetensors$/.test(name)) {
      throw new HubError(
        `${WEIGHT_INDEX} of ${repo} lists ${JSON.stringify(name)}; expected names of .safetensors files`,
      );
    }
    const file = listed.get(name);
    if (!file) throw new HubError(`${repo} has no ${name}, which its ${WEIGHT_INDEX} lists`);
    return file;
  });
}
