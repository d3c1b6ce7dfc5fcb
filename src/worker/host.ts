/**
 * The engine's thread: loads a model on a device and runs the step loop. Everything a front end may ask of it is
 * EngineApi (protocol.ts). Knows nothing of HTTP and pages; what differs between Node and browsers is in Platform.
 */
import type { Engine } from '../engine/engine.ts';
import type {
  DeviceCandidate,
  EngineApi,
  EngineInfo,
  EngineStats,
  EventSink,
  GenerateRequest,
  KernelModule,
  LoadOptions,
  LoadProgress,
  RequestError,
  RequestEvent,
  SubmitResult,
} from '../protocol.ts';
import { listDevices } from './chooseDevice.ts';
import { loadEngine, type EngineLoader, type LoadedEngine } from './loadEngine.ts';
import { throttleProgress } from './loadProgress.ts';
import type { Platform } from './platform.ts';

const SHUT_DOWN: RequestError = { code: 'not_ready', message: 'the engine was shut down' };

export class EngineHost implements EngineApi {
  readonly #platform: Platform;
  readonly #loader: EngineLoader;
  #load?: Promise<LoadedEngine>;
  #loaded?: LoadedEngine;
  #loop?: Promise<void>;
  #state: EngineStats['state'] = 'loading';
  #sink: EventSink = () => {};
  /** Accepted requests whose end was not sent yet. */
  readonly #live = new Set<string>();
  #heartbeat = performance.now();
  #wake: () => void = () => {};
  readonly #stop = new AbortController();
  #shutdown?: Promise<void>;

  /** Tests hand in a loader that needs no device. */
  constructor(platform: Platform, loader: EngineLoader = loadEngine) {
    this.#platform = platform;
    this.#loader = loader;
  }

  async load(options: LoadOptions, onProgress: (progress: LoadProgress) => void): Promise<EngineInfo> {
    if (this.#load) throw new Error('this engine has a model already; start another thread for a second one');
    this.#stop.signal.throwIfAborted();
    this.#load = this.#loader(options, {
      platform: this.#platform,
      // Over a thread's border the call answers with a promise; nobody may be listening any more.
      onProgress: throttleProgress((progress) => ignoreFailure(() => onProgress(progress))),
      signal: this.#stop.signal,
    });
    let loaded: LoadedEngine;
    try {
      loaded = await this.#load;
    } catch (error) {
      this.#load = undefined;
      throw error;
    }
    this.#stop.signal.throwIfAborted(); // shutdown() closes what was loaded meanwhile
    this.#loaded = loaded;
    this.#state = 'ready';
    void loaded.lost.then(({ reason }) => this.#lose(reason));
    this.#loop = this.#run(loaded.engine);
    return loaded.info;
  }

  events(sink: EventSink): void {
    this.#sink = sink;
  }

  submit(request: GenerateRequest): SubmitResult {
    if (!this.#loaded || this.#state !== 'ready') {
      const message = this.#stop.signal.aborted
        ? SHUT_DOWN.message
        : `the engine is not ready (${this.#state})`;
      return { accepted: false, error: { code: 'not_ready', message } };
    }
    try {
      const result = this.#loaded.engine.submit(request);
      if (result.accepted) {
        this.#live.add(request.id);
        this.#wake();
      }
      return result;
    } catch (error) {
      return { accepted: false, error: { code: 'internal', message: messageOf(error) } };
    }
  }

  abort(id: string): void {
    this.#loaded?.engine.abort(id);
    this.#wake();
  }

  stats(): EngineStats {
    const engine = this.#loaded?.engine;
    const counters = engine?.stats() ?? {
      running: 0,
      waiting: 0,
      kvPagesUsed: 0,
      kvPagesTotal: 0,
      steps: 0,
      promptTokens: 0,
      generationTokens: 0,
      requestsAccepted: 0,
      requestsFinished: { stop: 0, length: 0, abort: 0, error: 0 },
      preemptions: 0,
      iterationTokens: [],
    };
    // That this thread answers proves that an idle loop is alive; a busy one must have begun a step lately.
    const heartbeatAge = engine?.hasWork ? (performance.now() - this.#heartbeat) / 1000 : 0;
    return { ...counters, heartbeatAge, state: this.#state };
  }

  async kernelModules(): Promise<KernelModule[]> {
    return (await this.#platform.kernelModules?.()) ?? [];
  }

  devices(): Promise<DeviceCandidate[]> {
    return listDevices(this.#platform);
  }

  /** Ends a running load or the loop after its step, fails what is live, frees the device. */
  shutdown(): Promise<void> {
    this.#shutdown ??= this.#end();
    return this.#shutdown;
  }

  async #end(): Promise<void> {
    if (this.#state !== 'lost') this.#state = 'draining';
    this.#stop.abort(new Error(SHUT_DOWN.message));
    this.#wake();
    const loaded = await this.#load?.catch(() => undefined); // load() reports it
    await this.#loop;
    this.#failLive(SHUT_DOWN);
    await loaded?.close();
  }

  /** Runs steps while there is work; sleeps until submit or abort wakes it. */
  async #run(engine: Engine): Promise<void> {
    try {
      while (!this.#stop.signal.aborted) {
        this.#heartbeat = performance.now();
        if (engine.hasWork) {
          this.#send(await engine.step());
          await this.#platform.yieldToMessages();
        } else {
          await new Promise<void>((resolve) => (this.#wake = resolve));
        }
      }
    } catch (error) {
      this.#breakDown(engine, error);
    }
  }

  #send(events: RequestEvent[]): void {
    if (events.length === 0) return;
    for (const event of events) {
      if (event.type !== 'tokens') this.#live.delete(event.id);
      if (event.type === 'error' && event.error.code === 'device_lost') this.#state = 'lost';
    }
    ignoreFailure(() => this.#sink(events));
  }

  #lose(reason: string): void {
    if (this.#stop.signal.aborted) return; // shutdown() destroys the device
    this.#state = 'lost';
    this.#loaded?.engine.deviceLost(reason);
    this.#wake();
  }

  /**
   * step() ends the requests it fails with; when it throws, the engine's books are broken. Nobody is left waiting: every
   * live request fails, later ones are refused, and the state says that a new engine is needed.
   */
  #breakDown(engine: Engine, error: unknown): void {
    console.error('the step loop failed:', error);
    const message = `the step loop failed: ${messageOf(error)}`;
    this.#state = 'lost';
    this.#failLive({ code: 'internal', message });
    try {
      engine.deviceLost(message); // frees what its books still know
    } catch (second) {
      console.error('while ending all requests:', second);
    }
  }

  #failLive(error: RequestError): void {
    this.#send([...this.#live].map((id) => ({ type: 'error', id, error })));
  }
}

/** A front end that throws must not end this thread by an unhandled rejection. Over comlink the call is a promise. */
function ignoreFailure(call: () => unknown): void {
  void new Promise((resolve) => resolve(call())).catch((error: unknown) =>
    console.error('a front end failed:', error),
  );
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
