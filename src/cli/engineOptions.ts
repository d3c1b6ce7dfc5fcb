/** Options of every command that loads a model, and the loading itself. */
import { Option, type Command } from 'commander';
import { resolveModel } from '../hub/resolve.ts';
import { HubError } from '../hub/repo.ts';
import type { DeviceChoice, LoadOptions } from '../protocol.ts';
import { createNodeClient, embeddedModel } from '../worker/node/client.ts';
import type { EngineClient } from '../worker/types.ts';
import { LoadReport } from './loadReport.ts';
import { ProgressLine, type ProgressOutput } from './progress.ts';
import { bytes, CliError, integer } from './values.ts';

export interface EngineFlags {
  model?: string;
  device: DeviceChoice;
  maxBatchTokens?: number;
  maxRequests?: number;
  kvMemory?: number;
  maxModelLen?: number;
  pageSize?: number;
  storage: 'auto' | 'f32' | 'f16' | 'bf16';
  loop?: 'plain' | 'overlapped';
  pipelines: string;
  gemmBackend?: string;
  gemmAutotune?: boolean;
  gemmSkipOps?: string[];
  verbose?: boolean;
}

/** `devices`: what --device may name. */
export function addEngineOptions(
  command: Command,
  devices: readonly string[] = ['auto', 'cuda', 'webgpu', 'cpu'],
): Command {
  return command
    .option(
      '--model <directory|repo>',
      'model directory, or owner/name on the hub (default: the embedded model)',
    )
    .addOption(new Option('--device <kind>', 'where to compute').choices([...devices]).default('auto'))
    .option('--max-batch-tokens <n>', 'most tokens of one dense batch', integer(1, 2 ** 20))
    .option('--max-requests <n>', 'most requests that run at the same time', integer(1, 2 ** 16))
    .option('--kv-memory <bytes>', 'memory of the KV cache: 512MiB, 2GB', bytes)
    .option('--max-model-len <tokens>', 'longest request: prompt and answer', integer(2, 2 ** 31 - 1))
    .option('--page-size <tokens>', 'tokens of one KV page', integer(1, 2 ** 16))
    .addOption(
      new Option('--storage <type>', 'numbers of weights and KV cache')
        .choices(['auto', 'f32', 'f16', 'bf16'])
        .default('auto'),
    )
    .addOption(
      new Option(
        '--loop <kind>',
        'overlapped: the next step is launched before the last one is read (default: overlapped; plain on cpu)',
      ).choices(['overlapped', 'plain']),
    )
    .option(
      '--pipelines <auto|none|file>',
      'pipelines of nano-operations: those that nanoflow search kept for this model and device, none, or a file',
      'auto',
    )
    .option(
      '--gemm-backend <name>',
      'cuda: who does matrix products where it can (wgmma, portable, cublaslt)',
    )
    .option('--gemm-autotune', 'cuda: time the candidates for this model now, and keep what is fastest')
    .option('--gemm-skip-ops <list>', 'cuda: operations that are not tuned: lm_head,qkv', list)
    .option('--verbose', 'a line for each compiled kernel');
}

export interface LoadedModel {
  client: EngineClient;
  /** Where its files lie. */
  directory: string;
}

/**
 * Finds the model (pulling it when it is a name on the hub), then loads it.
 * @throws CliError with one line for the user
 */
export async function loadModel(
  flags: EngineFlags,
  more: Partial<LoadOptions> = {},
  output: ProgressOutput = process.stderr,
): Promise<LoadedModel> {
  const { directory, name } = await findModel(flags.model, output);
  const report = new LoadReport(output, { verbose: flags.verbose ?? false });
  const options: LoadOptions = {
    model: { kind: 'directory', path: directory },
    servedModelName: name,
    device: flags.device,
    maxBatchTokens: flags.maxBatchTokens,
    maxRequests: flags.maxRequests,
    kvMemoryBytes: flags.kvMemory,
    maxModelLen: flags.maxModelLen,
    pageSize: flags.pageSize,
    storage: flags.storage,
    loop: flags.loop,
    pipelines: pipelinesOf(flags.pipelines),
    gemm: { backend: flags.gemmBackend, autotune: flags.gemmAutotune, skipOps: flags.gemmSkipOps },
    ...withoutUndefined(more),
  };
  try {
    const client = await createNodeClient(options, (progress) => report.update(progress));
    return { client, directory };
  } catch (error) {
    throw new CliError(`can not load ${flags.model ?? 'the embedded model'}: ${(error as Error).message}`);
  } finally {
    report.end();
  }
}

function list(text: string): string[] {
  return text.split(',').map((part) => part.trim());
}

function pipelinesOf(text: string): LoadOptions['pipelines'] {
  return text === 'auto' || text === 'none' ? text : { file: text };
}

async function findModel(
  model: string | undefined,
  output: ProgressOutput,
): Promise<{ directory: string; name?: string }> {
  if (model === undefined) return { directory: embeddedModel() };
  const line = new ProgressLine(output);
  try {
    return await resolveModel(model, {
      onProgress: ({ doneBytes, totalBytes, file }) => line.update(doneBytes, totalBytes, file),
    });
  } catch (error) {
    if (error instanceof HubError) throw new CliError(error.message);
    throw error;
  } finally {
    line.end();
  }
}

function withoutUndefined<T extends object>(options: T): Partial<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Partial<T>;
}
