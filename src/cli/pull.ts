/** `nanoflow pull`: fetches a model from the Hugging Face hub into the cache. */

import { Command } from 'commander';
import { pullModel, type PulledModel, type PullOptions } from '../hub/pull.ts';
import { defaultCache, HubError } from '../hub/repo.ts';
import { ProgressLine, type ProgressOutput } from './progress.ts';

export interface PullFlags extends PullOptions {
  readonly quiet?: boolean;
}

/** Fetches with a progress line on `output`. @throws HubError */
export async function pull(
  repo: string,
  flags: PullFlags = {},
  output: ProgressOutput = process.stderr,
): Promise<PulledModel> {
  const line = new ProgressLine(output);
  try {
    return await pullModel(repo, {
      ...flags,
      onProgress: (progress) => {
        if (!flags.quiet) line.update(progress.doneBytes, progress.totalBytes, progress.file);
        flags.onProgress?.(progress);
      },
    });
  } finally {
    line.end();
  }
}

export function pullCommand(): Command {
  return new Command('pull')
    .description('fetch a model from the Hugging Face hub (configuration, tokenizer, safetensors)')
    .argument('<repo>', 'owner/name or owner/name@revision')
    .option('--revision <name>', 'branch, tag or commit', undefined)
    .option('--cache <directory>', 'where models are kept (environment: NANOFLOW_CACHE)', defaultCache())
    .option('--quiet', 'no progress line')
    .addHelpText(
      'after',
      '\nEnvironment: HF_TOKEN (private and gated models), HF_ENDPOINT (another hub), NANOFLOW_CACHE.',
    )
    .action(async (repo: string, flags: { revision?: string; cache: string; quiet?: boolean }) => {
      try {
        const { revision, ...rest } = flags;
        const model = await pull(revision === undefined ? repo : `${repo}@${revision}`, rest);
        process.stdout.write(`${model.directory}\n`);
        process.stderr.write(
          `${model.name} at commit ${model.commit}. Serve it with: nanoflow serve --model ${repo}\n`,
        );
      } catch (error) {
        if (!(error instanceof HubError)) throw error;
        process.stderr.write(`nanoflow pull: ${error.message}\n`);
        process.exitCode = 1;
      }
    });
}
