/** The worker folder without threads: both ends of a message channel live in the test's own thread. */
import { MessageChannel } from 'node:worker_threads';
import * as Comlink from 'comlink';
import nodeEndpoint from 'comlink/dist/esm/node-adapter.mjs';
import { Engine } from '../../src/engine/engine.ts';
import type { BatchRunner } from '../../src/engine/model/runner.ts';
import type { EngineApi, EngineInfo, LoadOptions, TextApi } from '../../src/protocol.ts';
import type { EngineLoader } from '../../src/worker/loadEngine.ts';
import type { Platform } from '../../src/worker/platform.ts';
import { TextClient } from '../../src/worker/textClient.ts';
import type { Thread } from '../../src/worker/thread.ts';
import { fakeText } from '../engine/fakeRunner.ts';

export interface TestThread<Api> extends Thread<Api> {
  /** Ends it as a thread ends by itself: no message passes any more, in either direction. */
  crash(reason: string): void;
  readonly terminated: boolean;
}

export function threadOf<Api extends object>(api: Api): TestThread<Api> {
  const { port1, port2 } = new MessageChannel();
  Comlink.expose(api, nodeEndpoint(port2));
  let reportCrash: (reason: string) => void;
  const crashed = new Promise<string>((resolve) => (reportCrash = resolve));
  const state = { terminated: false };
  return {
    api: Comlink.wrap<Api>(nodeEndpoint(port1)),
    crashed,
    terminate: async () => {
      state.terminated = true;
      port1.close();
      reportCrash('exited with code 1'); // as Node's threads say of every end
    },
    crash(reason) {
      port1.close();
      reportCrash(reason);
    },
    get terminated() {
      return state.terminated;
    },
  };
}

export const platform: Platform = {
  openModel: () => Promise.reject(new Error('these tests read no model')),
  findAdapters: async () => ({ candidates: [], rejected: [] }),
  fasterDeviceHint: '',
  yieldToMessages: () => new Promise((resolve) => setImmediate(resolve)),
};

export const loadOptions: LoadOptions = { model: { kind: 'directory', path: '/models/test' }, device: 'cpu' };

export interface TestEngine {
  engine: Engine;
  loader: EngineLoader;
  lose(reason: string): void;
  readonly closed: boolean;
}

/** An engine whose model is `runner`, and the loader that gives it to an EngineHost. */
export function engineOn(runner: BatchRunner, options: { maxQueuedRequests?: number } = {}): TestEngine {
  const { sizes, config } = runner;
  const engine = new Engine(runner, fakeText, {
    endTokens: [0],
    maxQueuedRequests: options.maxQueuedRequests ?? 1000,
    maxQueuedTokens: 1e6,
    checkPages: true,
  });
  const info: EngineInfo = {
    model: {
      name: 'test',
      architecture: 'TestForCausalLM',
      parameters: 1,
      vocabSize: config.vocabSize,
      maxModelLen: sizes.maxModelLen,
      eosTokenIds: [0],
      hasChatTemplate: true,
      storage: 'f32',
      weightBytes: 4,
    },
    device: { kind: 'cpu', name: 'test', reason: 'a test', rejected: [] },
    kv: { pageSize: sizes.pageSize, pages: sizes.pages, bytes: 0 },
    maxBatchTokens: sizes.maxBatchTokens,
    maxRequests: sizes.maxRequests,
    loadSeconds: 0,
  };
  let lose: (reason: string) => void;
  const lost = new Promise<{ reason: string }>((resolve) => (lose = (reason) => resolve({ reason })));
  const state = { closed: false };
  return {
    engine,
    loader: async () => ({ engine, info, lost, close: async () => void (state.closed = true) }),
    lose: (reason) => lose(reason),
    get closed() {
      return state.closed;
    },
  };
}

/** A tokenizer of one token a character, and a template that joins contents. */
export const plainText: TextApi = {
  loadTokenizer: async () => {},
  loadTemplate: async () => true,
  encode: (text) => Array.from(text, (character) => character.charCodeAt(0) % 90),
  decode: (ids) => ids.join(' '),
  renderChat: (messages) => messages.map(({ content }) => content).join('|'),
};

export function textClientOn(api: TextApi = plainText): { text: TextClient; threads: TestThread<TextApi>[] } {
  const threads: TestThread<TextApi>[] = [];
  const start = (): TestThread<TextApi> => {
    const thread = threadOf(api);
    threads.push(thread);
    return thread;
  };
  return { text: new TextClient({ startTokenizer: start, startTemplate: start }), threads };
}

/** What the engine's side of EngineApi would need a device for is left to `changes`. */
export function engineApi(changes: Partial<EngineApi>): EngineApi {
  const { loader } = engineOn({
    config: { vocabSize: 97 },
    sizes: { pages: 8, pageSize: 4, maxBatchTokens: 8, maxRequests: 4, maxModelLen: 32 },
    maxAdjustments: 4096,
    launch: async () => ({ collect: async () => [] }),
  });
  return {
    load: async (options) =>
      (await loader(options, { platform, onProgress: () => {}, signal: new AbortController().signal })).info,
    events: () => {},
    submit: () => ({ accepted: true }),
    abort: () => {},
    stats: () => {
      throw new Error('no stats here');
    },
    devices: async () => [],
    kernelModules: async () => [],
    shutdown: async () => {},
    ...changes,
  };
}

/** Turns of the event loop, so that messages in flight arrive. */
export async function turns(count = 10): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}
