/**
 * A published shape with random weights behind the face of the engine's client, so that `bench throughput` and
 * `bench latency` measure it as they measure a model: the engine alone, in this thread, without text.
 */
import type { EngineInfo, GenerateRequest } from '../../src/protocol.ts';
import { parseModelConfig } from '../../src/engine/model/config.ts';
import { readJson } from '../../src/engine/model/modelFiles.ts';
import { ModelRunner } from '../../src/engine/model/runner.ts';
import { chooseSizes, type SizeOptions } from '../../src/engine/model/sizes.ts';
import { RequestStream } from '../../src/worker/requestStream.ts';
import { GenerateError, type GenerationEvent } from '../../src/worker/types.ts';
import { openDevice } from '../kernels/index.ts';
import { newEngine } from './engines.ts';
import { usage } from './benchError.ts';
import { randomModelFiles } from './randomModel.ts';

export interface ShapeClientOptions extends SizeOptions {
  device: 'auto' | 'cuda' | 'webgpu' | 'cpu';
  shape: string;
  layers?: number;
}

export interface ShapeClient {
  info: EngineInfo;
  generate(request: Omit<GenerateRequest, 'id'>): Promise<AsyncIterable<GenerationEvent>>;
  dispose(): Promise<void>;
}

export async function openShapeClient(options: ShapeClientOptions): Promise<ShapeClient> {
  const begin = performance.now();
  const { shape, layers } = options;
  const files = usage(() => randomModelFiles(shape, layers));
  const config = parseModelConfig(await readJson(files, 'config.json'));
  const device = await openDevice(options.device);
  try {
    const sizes = usage(() => chooseSizes(config, device.target, options, device.deviceMemory?.()));
    let parameters = 0;
    const runner = await ModelRunner.load(device, config, files, sizes, {
      weights: ({ totalParameters }) => (parameters = totalParameters),
    });
    await runner.compile();
    await runner.warmUp();
    const engine = newEngine(runner);
    const streams = new Map<string, RequestStream>();
    let running: Promise<void> | undefined;
    const run = async (): Promise<void> => {
      while (engine.hasWork) {
        for (const event of await engine.step()) {
          streams.get(event.id)?.push(event);
          if (event.type !== 'tokens') streams.delete(event.id);
        }
        // Readers get their turn: on the cpu device a step never leaves this thread.
        await new Promise((resolve) => setImmediate(resolve));
      }
      running = undefined;
    };
    let next = 0;
    const { target } = device;
    const info: EngineInfo = {
      model: {
        name: `random ${shape}`,
        architecture: config.architecture,
        parameters,
        vocabSize: config.vocabSize,
        maxModelLen: sizes.maxModelLen,
        eosTokenIds: [],
        hasChatTemplate: false,
        storage: sizes.types.weights,
        weightBytes: runner.weightBytes,
      },
      device: {
        kind: target.kind === 'sim' ? 'cpu' : target.kind,
        name: target.name,
        reason: 'the engine alone, random weights',
        rejected: [],
      },
      kv: { pageSize: sizes.pageSize, pages: sizes.pages, bytes: sizes.kvBytes },
      maxBatchTokens: sizes.maxBatchTokens,
      maxRequests: sizes.maxRequests,
      loadSeconds: (performance.now() - begin) / 1000,
    };
    return {
      info,
      async generate(request) {
        const id = `${next++}`;
        const stream = new RequestStream(() => engine.abort(id));
        streams.set(id, stream);
        const result = engine.submit({ ...request, id });
        if (!result.accepted) {
          streams.delete(id);
          throw new GenerateError(result.error);
        }
        running ??= run();
        return stream;
      },
      async dispose() {
        await running;
        await device.idle();
        device.destroy();
      },
    };
  } catch (error) {
    device.destroy();
    throw error;
  }
}
