/** What `--model` means: a directory, a model pulled before, or one to be pulled now. */

import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { pulledModel, pullModel, type PullOptions } from './pull.ts';
import { HubError } from './repo.ts';

export interface ResolvedModel {
  readonly directory: string; // absolute
  readonly name: string; // for clients: owner/name, or the directory's own name
  readonly commit?: string; // of models from the hub
}

/**
 * An existing directory wins over a name of the hub. A model that was pulled before is used as it is, without the
 * network; `nanoflow pull` brings it up to date.
 * @throws HubError
 */
export async function resolveModel(model: string, options: PullOptions = {}): Promise<ResolvedModel> {
  const directory = resolve(model);
  const info = await stat(directory).catch(() => undefined);
  if (info?.isDirectory()) return { directory, name: directory.split(/[\\/]/).at(-1) || 'model' };
  if (info) throw new HubError(`${model} is a file; expected a model directory or owner/name on the hub`);
  if (/^[./~]|\\/.test(model))
    throw new HubError(`there is no directory ${model}; expected a model directory or owner/name on the hub`);
  return (await pulledModel(model, options)) ?? (await pullModel(model, options));
}
