/**
 * The engine's thread: loads a model on a device and runs the step loop. Everything a front end may ask of it is
 * EngineApi (protocol.ts). Knows nothing of HTTP and pages; what differs between Node and browsers is in Platform.
 */
import { Engine } from '../engine/engine.ts';
import type { Device } from '../engine/device.ts';
import { parseModelConfig } from '../engine/model/config.ts';
import { readJson } from '../engine/model/modelFiles.ts';
import { ModelRunner } from '../engine/model/runner.ts';
import { chooseSizes } from '../engine/model/sizes.ts';
import { loadChatTemplate } from '../engine/tokenizer/chatTemplate.ts';
import { loadVocabulary } from '../engine/tokenizer/vocabulary.ts';
import type {
  DeviceCandidate,
  EngineApi,
  EngineInfo,
  EngineStats,
  EventSink,
  GenerateRequest,
  LoadOptions,
  LoadProgress,
  RequestEvent,
  SubmitResult,
} from '../protocol.ts';
import { chooseDevice, listDevices } from './chooseDevice.ts';
import { generationEndTokens, modelName } from './modelFacts.ts';
import type { Platform } from './platform.ts';

export class EngineHost implements EngineApi {
  readonly #platform: Platform;
  #engine?: Engine;
  #device?: Device;
  #state: EngineStats['state'] = 'loading';
  #sink: EventSink = () => {};
  #heartbeat = performance.now();
  #wake: () => void = () => {};
  #stopped = false;

  constructor(platform: Platform) {
    this.#platform = platform;
  }

  async load(options: LoadOptions, onProgress: (progress: LoadProgress) => void): Promise<EngineInfo> {
    if (this.#engine)
      throw new Error('this engine has a model already; start another thread for a second one');
    const begin = performance.now();
    const files = await this.#platform.openModel(options.model);
    const json = (await readJson(files, 'config.json')) as { architectures?: string[] };
    const config = parseModelConfig(json);

    onProgress({ stage: 'device', done: 0, total: 1, unit: 'steps', detail: options.device });
    const { device, report } = await chooseDevice(options.device, this.#platform);
    this.#device = device;
    onProgress({ stage: 'device', done: 1, total: 1, unit: 'steps', detail: report.name });
    const sizes = chooseSizes(config, device.target, options);
    const text = await loadVocabulary(files);
    onProgress({ stage: 'tokenizer', done: 1, total: 1, unit: 'steps', detail: 'tokenizer.json' });

    let parameters = 0;
    const storedBytes = sizes.types.weights === 'f16' ? 2 : 4;
    const runner = await ModelRunner.load(device, config, files, sizes, {
      weights: ({ weight, loadedParameters, totalParameters }) => {
        parameters = totalParameters;
        const [done, total] = [loadedParameters * storedBytes, totalParameters * storedBytes];
        onProgress({ stage: 'weights', done, total, unit: 'bytes', detail: weight });
      },
    });
    for (const name of runner.unexpectedTensors) {
      onProgress({ stage: 'weights', done: 1, total: 1, unit: 'bytes', detail: `ignored tensor ${name}` });
    }
    let compiled = 0;
    await runner.compile(({ kernel, milliseconds }) => {
      const detail = `${kernel} (${milliseconds.toFixed(1)} ms)`;
      onProgress({ stage: 'compile', done: ++compiled, total: 0, unit: 'kernels', detail });
    });

    const endTokens = await generationEndTokens(files, config);
    this.#engine = new Engine(runner, text, {
      endTokens,
      maxQueuedRequests: options.maxQueuedRequests ?? 1024,
      maxQueuedTokens: options.maxQueuedTokens ?? 2 ** 20,
    });
    void device.lost.then(({ reason }) => this.#lose(reason));
    this.#state = 'ready';
    onProgress({ stage: 'ready', done: 1, total: 1, unit: 'steps', detail: report.name });
    void this.#loop();
    return {
      model: {
        name: options.servedModelName ?? modelName(options.model),
        architecture: json.architectures?.[0] ?? config.architecture,
        parameters,
        vocabSize: config.vocabSize,
        maxModelLen: sizes.maxModelLen,
        bosTokenId: config.bosTokenId,
        eosTokenIds: endTokens,
        hasChatTemplate: (await loadChatTemplate(files)) !== undefined,
        storage: sizes.types.weights,
        weightBytes: runner.weightBytes,
      },
      device: report,
      kv: { pageSize: sizes.pageSize, pages: sizes.pages, bytes: sizes.kvBytes },
      maxBatchTokens: sizes.maxBatchTokens,
      maxRequests: sizes.maxRequests,
      loadSeconds: (performance.now() - begin) / 1000,
    };
  }

  events(sink: EventSink): void {
    this.#sink = sink;
  }

  submit(request: GenerateRequest): SubmitResult {
    if (!this.#engine || this.#stopped) {
      return { accepted: false, error: { code: 'not_ready', message: 'the engine has no model yet' } };
    }
    const result = this.#engine.submit(request);
    if (result.accepted) this.#wake();
    return result;
  }

  abort(id: string): void {
    this.#engine?.abort(id);
    this.#wake();
  }

  stats(): EngineStats {
    const idle = this.#engine && !this.#engine.hasWork;
    const heartbeatAge = idle ? 0 : (performance.now() - this.#heartbeat) / 1000;
    const empty = { stop: 0, length: 0, abort: 0, error: 0 };
    return {
      ...(this.#engine?.stats() ?? {
        running: 0,
        waiting: 0,
        kvPagesUsed: 0,
        kvPagesTotal: 0,
        steps: 0,
        promptTokens: 0,
        generationTokens: 0,
        requestsAccepted: 0,
        requestsFinished: empty,
        preemptions: 0,
        iterationTokens: [],
      }),
      heartbeatAge,
      state: this.#state,
    };
  }

  devices(): Promise<DeviceCandidate[]> {
    return listDevices(this.#platform);
  }

  async shutdown(): Promise<void> {
    this.#stopped = true;
    this.#wake();
    await this.#device?.idle().catch(() => {}); // a lost device has nothing to wait for
    this.#device?.destroy();
  }

  /** Runs steps while there is work; sleeps until submit or abort wakes it. */
  async #loop(): Promise<void> {
    const engine = this.#engine!;
    while (!this.#stopped) {
      if (!engine.hasWork) await new Promise<void>((resolve) => (this.#wake = resolve));
      this.#heartbeat = performance.now();
      this.#send(await engine.step());
      await this.#platform.yieldToMessages();
    }
  }

  #send(events: RequestEvent[]): void {
    if (events.length > 0) this.#sink(events);
  }

  #lose(reason: string): void {
    if (this.#stopped) return;
    this.#state = 'lost';
    this.#engine?.deviceLost(reason);
    this.#wake();
  }
}
