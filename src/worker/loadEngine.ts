/** From model files to an engine that can run steps: device, sizes, weights, compiled programs. */
import { Engine } from '../engine/engine.ts';
import type { DeviceLostInfo } from '../engine/device.ts';
import { parseModelConfig } from '../engine/model/config.ts';
import { readJson, type ModelFiles } from '../engine/model/modelFiles.ts';
import { ModelRunner } from '../engine/model/runner.ts';
import { chooseSizes } from '../engine/model/sizes.ts';
import { loadChatTemplate } from '../engine/tokenizer/chatTemplate.ts';
import { loadVocabulary } from '../engine/tokenizer/vocabulary.ts';
import type { EngineInfo, LoadOptions, LoadProgress } from '../protocol.ts';
import { chooseDevice, type ChosenDevice } from './chooseDevice.ts';
import { choosePipeline, parseTable } from '../engine/search/table.ts';
import { generationEndTokens, modelName } from './modelFacts.ts';
import type { Platform } from './platform.ts';

export interface LoadedEngine {
  engine: Engine;
  info: EngineInfo;
  /** Resolves when the device is gone. */
  lost: Promise<DeviceLostInfo>;
  /** Frees the device. No step may run. */
  close(): Promise<void>;
}

export interface LoadContext {
  platform: Platform;
  onProgress: (progress: LoadProgress) => void;
  /** Ends the load, with its reason as the error, at the next border of two stages. */
  signal: AbortSignal;
}

export type EngineLoader = (options: LoadOptions, context: LoadContext) => Promise<LoadedEngine>;

/** Names of tensors that nothing reads, beyond which only their number is told. */
const MAX_REMARKS = 10;

/** @throws Error that says why the model cannot be served; nothing stays open then. */
export const loadEngine: EngineLoader = async (options, context) => {
  const begin = performance.now();
  const files = await context.platform.openModel(options.model);
  try {
    const step = (stage: 'device' | 'tokenizer' | 'ready', done: number, detail: string): void => {
      context.signal.throwIfAborted();
      context.onProgress({ stage, done, total: 1, unit: 'steps', detail });
    };
    // What is cheap and may be refused comes before the device.
    const json = (await readJson(files, 'config.json')) as { architectures?: string[] };
    const config = parseModelConfig(json);
    const endTokens = await generationEndTokens(files, config);
    const hasChatTemplate = (await loadChatTemplate(files)) !== undefined;
    const text = await loadVocabulary(files);
    step('tokenizer', 1, 'tokenizer.json');

    step('device', 0, options.device);
    const chosen = await chooseDevice(options.device, context.platform);
    try {
      step('device', 1, chosen.report.name);
      const sizes = chooseSizes(config, chosen.device.target, options, chosen.device.deviceMemory?.());
      const { runner, parameters } = await loadRunner(chosen, config, files, sizes, {
        ...context,
        options,
      });
      await loadPipelines(runner, chosen, options, context);
      const engine = new Engine(runner, text, {
        endTokens,
        maxQueuedRequests: options.maxQueuedRequests ?? 1024,
        maxQueuedTokens: options.maxQueuedTokens ?? 2 ** 20,
        // The cpu device computes while it launches, so that tokens would only come a step later.
        loop: options.loop ?? (chosen.device.target.kind === 'cpu' ? 'plain' : 'overlapped'),
      });
      step('ready', 0, 'first run of every kernel');
      await runner.warmUp();
      step('ready', 1, chosen.report.name);
      const info: EngineInfo = {
        model: {
          name: options.servedModelName ?? modelName(options.model),
          architecture: json.architectures?.[0] ?? config.architecture,
          parameters,
          vocabSize: config.vocabSize,
          maxModelLen: sizes.maxModelLen,
          bosTokenId: config.bosTokenId,
          eosTokenIds: endTokens,
          hasChatTemplate,
          storage: sizes.types.weights,
          weightBytes: runner.weightBytes,
        },
        device: chosen.report,
        kv: { pageSize: sizes.pageSize, pages: sizes.pages, bytes: sizes.kvBytes },
        maxBatchTokens: sizes.maxBatchTokens,
        maxRequests: sizes.maxRequests,
        loadSeconds: (performance.now() - begin) / 1000,
      };
      return { engine, info, lost: chosen.device.lost, close: () => closeDevice(chosen) };
    } catch (error) {
      await closeDevice(chosen);
      throw error;
    }
  } finally {
    await files.close();
  }
};

async function loadRunner(
  { device }: ChosenDevice,
  config: ReturnType<typeof parseModelConfig>,
  files: ModelFiles,
  sizes: ReturnType<typeof chooseSizes>,
  { onProgress, signal, platform, options }: LoadContext & { options: LoadOptions },
): Promise<{ runner: ModelRunner; parameters: number }> {
  let parameters = 0;
  const storedBytes = sizes.types.weights === 'f32' ? 4 : 2;
  const runner = await ModelRunner.load(device, config, files, sizes, {
    weights: ({ weight, loadedParameters, totalParameters }) => {
      signal.throwIfAborted();
      parameters = totalParameters;
      const [done, total] = [loadedParameters * storedBytes, totalParameters * storedBytes];
      onProgress({ stage: 'weights', done, total, unit: 'bytes', detail: weight });
    },
  });
  const remark = (detail: string): void =>
    onProgress({ stage: 'weights', done: 1, total: 1, unit: 'bytes', detail });
  const ignored = runner.unexpectedTensors;
  for (const name of ignored.slice(0, MAX_REMARKS)) remark(`ignored tensor ${name}`);
  if (ignored.length > MAX_REMARKS) remark(`ignored ${ignored.length - MAX_REMARKS} more tensors`);

  await platform.prepareRunner?.(runner, options, onProgress);
  let compiled = 0;
  await runner.compile(({ kernel, milliseconds }) => {
    signal.throwIfAborted();
    const detail = `${kernel} (${milliseconds.toFixed(1)} ms)`;
    onProgress({ stage: 'compile', done: ++compiled, total: 0, unit: 'kernels', detail });
  });
  return { runner, parameters };
}

/**
 * Lets the runner choose among searched pipelines, and compiles their programs, so that no request waits for it.
 * @throws Error for a file that was named and is of no use; a useless cached table is only remarked on.
 */
async function loadPipelines(
  runner: ModelRunner,
  { device }: ChosenDevice,
  { pipelines = 'auto' }: LoadOptions,
  { platform, onProgress }: LoadContext,
): Promise<void> {
  if (pipelines === 'none' || !platform.readPipelines) return;
  const file = pipelines === 'auto' ? undefined : pipelines.file;
  const subject = { device: device.target.name, config: runner.config, storage: runner.sizes.types.weights };
  const text = await platform.readPipelines(subject, file);
  if (text === undefined) return;
  const remark = (detail: string): void =>
    onProgress({ stage: 'compile', done: 1, total: 1, unit: 'steps', detail });
  try {
    const table = parseTable(text, file ?? 'the kept pipelines');
    const found = table.entries.filter(({ pipeline }) => pipeline !== null);
    runner.usePipelines((batch) => choosePipeline(table, batch));
    for (const { mix } of found) {
      const { decode, prefill } = mix;
      await runner.compileFor({ tokens: decode + prefill, decodeTokens: decode });
    }
    remark(`pipelines: ${found.length} of ${table.entries.length} searched mixes, for ${table.device}`);
  } catch (error) {
    runner.usePipelines(undefined);
    if (file !== undefined) throw error;
    remark(`pipelines not used: ${(error as Error).message}`);
  }
}

async function closeDevice({ device }: ChosenDevice): Promise<void> {
  await device.idle().catch(() => {}); // a lost device has nothing to wait for
  device.destroy();
}
