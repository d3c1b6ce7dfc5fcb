import { afterEach, describe, expect, it, vi } from 'vitest';
import type {
  EngineApi,
  EventSink,
  GenerateRequest,
  RequestEvent,
  SubmitResult,
} from '../../src/protocol.ts';
import { connect, type EngineClient, type GenerationEvent } from '../../src/worker/client.ts';
import { EngineHost } from '../../src/worker/host.ts';
import { ask, expected, FakeRunner } from '../engine/fakeRunner.ts';
import {
  engineApi,
  engineOn,
  loadOptions,
  plainText,
  platform,
  textClientOn,
  threadOf,
  turns,
  type TestThread,
} from './inOneThread.ts';

interface Connected {
  client: EngineClient;
  thread: TestThread<EngineApi>;
}

async function connected(api: EngineApi): Promise<Connected> {
  const thread = threadOf(api);
  return { client: await connect(thread, textClientOn().text, loadOptions, () => {}), thread };
}

/** An engine's thread of which the test holds every string. */
class Puppet {
  sink: EventSink = () => {};
  readonly heard: string[] = [];
  answer?: (result: SubmitResult) => void;
  readonly api: EngineApi = engineApi({
    events: (sink) => void (this.sink = sink),
    submit: (request) => {
      this.heard.push(`submit ${request.id}`);
      return new Promise((resolve) => (this.answer = resolve)) as unknown as SubmitResult;
    },
    abort: (id) => void this.heard.push(`abort ${id}`),
  });
}

const request = (changes: Partial<GenerateRequest['stop']> = {}): Omit<GenerateRequest, 'id'> => {
  const { id: _, ...rest } = ask('', [1, 2, 3], changes);
  return rest;
};
const tokens = (id: string): RequestEvent => ({ type: 'tokens', id, text: 'x', tokenIds: [1] });
const end = (id: string, finishReason: 'length' | 'abort' = 'length'): RequestEvent => ({
  type: 'end',
  id,
  finishReason,
  usage: { promptTokens: 3, completionTokens: 1 },
  timings: { queued: 0, prefill: 0, decode: 0, timeToFirstToken: 0, total: 0 },
});

async function read(events: AsyncIterable<GenerationEvent>): Promise<string[]> {
  const seen: string[] = [];
  for await (const event of events) seen.push(event.type === 'end' ? event.finishReason : event.type);
  return seen;
}

const clients: EngineClient[] = [];
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.dispose()));
});

async function puppet(): Promise<Connected & { engine: Puppet }> {
  const engine = new Puppet();
  const result = await connected(engine.api);
  clients.push(result.client);
  return { ...result, engine };
}

async function real(runner = new FakeRunner()): Promise<Connected & { host: EngineHost }> {
  const host = new EngineHost(platform, engineOn(runner).loader);
  const result = await connected(host);
  clients.push(result.client);
  return { ...result, host };
}

describe('generate', () => {
  it('yields the tokens of each request and one end, for many at once', async () => {
    const { client } = await real();
    const answers = await Promise.all(
      Array.from({ length: 20 }, async (_, i) => {
        const prompt = [1 + i, 2, 3];
        const found: number[] = [];
        for await (const event of await client.generate({ ...request(), promptTokenIds: prompt })) {
          if (event.type === 'tokens') found.push(...event.tokenIds);
        }
        return { prompt, found };
      }),
    );
    for (const { prompt, found } of answers) expect(found).toEqual(expected(prompt, found.length));
    expect(await client.stats()).toMatchObject({ kvPagesUsed: 0, requestsAccepted: 20 });
  });

  it('keeps events that overtake the answer to submit', async () => {
    const { client, engine } = await puppet();
    const generation = client.generate({ ...request(), id: 'a' });
    await turns();
    engine.sink([tokens('a'), end('a')]);
    await turns();
    engine.answer!({ accepted: true });
    expect(await read(await generation)).toEqual(['tokens', 'length']);
  });

  it('throws what the engine refuses with, and forgets the request', async () => {
    const { client, engine } = await puppet();
    for (const code of ['queue_full', 'invalid'] as const) {
      const generation = client.generate({ ...request(), id: 'a' });
      await turns();
      engine.answer!({ accepted: false, error: { code, message: 'no' } });
      await expect(generation).rejects.toMatchObject({ name: 'GenerateError', error: { code } });
    }
  });

  it('submits nothing when the signal was aborted before', async () => {
    const { client, engine } = await puppet();
    expect(await read(await client.generate(request(), { signal: AbortSignal.abort() }))).toEqual(['abort']);
    expect(engine.heard).toEqual([]);
  });

  it('sends an abort behind a submit that is not answered yet', async () => {
    const { client, engine } = await puppet();
    const abort = new AbortController();
    const generation = client.generate({ ...request(), id: 'a' }, { signal: abort.signal });
    abort.abort();
    await turns();
    expect(engine.heard).toEqual(['submit a', 'abort a']);
    engine.answer!({ accepted: true });
    engine.sink([end('a', 'abort')]);
    expect(await read(await generation)).toEqual(['abort']);
  });

  it('aborts in the engine, and ends with finish reason abort, wherever the request is', async () => {
    const { client } = await real(new FakeRunner({ maxRequests: 1 }));
    const running = new AbortController();
    const waiting = new AbortController();
    const long = { maxTokens: 50, ignoreEos: true };
    const first = await client.generate(request(long), { signal: running.signal });
    const second = await client.generate(request(long), { signal: waiting.signal });
    waiting.abort();
    expect(await read(second)).toEqual(['abort']);
    running.abort();
    expect((await read(first)).at(-1)).toBe('abort');
    expect(await client.stats()).toMatchObject({ kvPagesUsed: 0, running: 0, waiting: 0 });
  });

  it('listens to the signal no longer than the request lives', async () => {
    const { client } = await real();
    const { signal } = new AbortController();
    const add = vi.spyOn(signal, 'addEventListener');
    const remove = vi.spyOn(signal, 'removeEventListener');
    await client.generate(request(), { signal }); // nobody reads it
    await read(await client.generate(request(), { signal }));
    await expect(client.generate({ ...request(), promptTokenIds: [] }, { signal })).rejects.toThrow(
      'no tokens',
    );
    await vi.waitFor(() => expect(remove).toHaveBeenCalledTimes(3));
    expect(add).toHaveBeenCalledTimes(3);
  });

  it('aborts a request whose iterator is left, before its first event too', async () => {
    const { client, engine } = await puppet();
    for (const id of ['unread', 'waiting']) {
      const generation = client.generate({ ...request(), id });
      await turns();
      engine.answer!({ accepted: true });
      const events = (await generation)[Symbol.asyncIterator]();
      const next = id === 'waiting' ? events.next() : undefined;
      await events.return!();
      if (next) expect((await next).done).toBe(true);
      await turns();
      expect(engine.heard.at(-1)).toBe(`abort ${id}`);
    }
  });

  it('keeps the id of an iterator that was left until its end has come', async () => {
    const { client, engine } = await puppet();
    const submit = async () => {
      const generation = client.generate({ ...request(), id: 'a' });
      await turns();
      engine.answer!({ accepted: true });
      return generation;
    };
    const first = (await submit())[Symbol.asyncIterator]();
    await first.return!();
    const again = client.generate({ ...request(), id: 'a' });
    await expect(again).rejects.toMatchObject({ error: { code: 'invalid', param: 'id' } });
    engine.sink([end('a', 'abort')]);
    await turns();
    const second = await submit();
    engine.sink([tokens('a'), end('a')]);
    expect(await read(second)).toEqual(['tokens', 'length']);
  });

  it('opens no port for a request', async () => {
    const { client } = await real();
    await read(await client.generate(request()));
    const ports = (): number =>
      process.getActiveResourcesInfo().filter((kind) => kind === 'MessagePort').length;
    const before = ports();
    for (let i = 0; i < 20; i++) await read(await client.generate(request()));
    expect(ports()).toBeLessThanOrEqual(before);
  });
});

describe('when the thread ends', () => {
  it('fails every stream and every waiting call, then refuses', async () => {
    const { client, thread, engine } = await puppet();
    const streams: AsyncIterable<GenerationEvent>[] = [];
    for (const id of ['a', 'b']) {
      const generation = client.generate({ ...request(), id });
      await turns();
      engine.answer!({ accepted: true });
      streams.push(await generation);
    }
    const submitting = client.generate({ ...request(), id: 'c' });
    await turns();
    thread.crash('segmentation fault');
    await expect(submitting).rejects.toMatchObject({ error: { code: 'not_ready' } });
    for (const stream of streams) {
      await expect(read(stream)).rejects.toMatchObject({
        error: { code: 'device_lost', message: expect.stringContaining('segmentation fault') },
      });
    }
    await expect(client.generate(request())).rejects.toMatchObject({ error: { code: 'not_ready' } });
    await expect(client.stats()).rejects.toThrow('segmentation fault');
  });

  it('fails the load, whether it comes before or during it, and ends all threads', async () => {
    for (const when of ['before', 'during']) {
      const thread = threadOf(engineApi({ load: () => new Promise(() => {}) }));
      const { text, threads } = textClientOn();
      const loading = connect(thread, text, loadOptions, () => {});
      if (when === 'during') await turns();
      thread.crash('a module is missing');
      await expect(loading).rejects.toThrow('a module is missing');
      expect([thread, ...threads].map(({ terminated }) => terminated)).toEqual([true, true, true]);
    }
  });
});

describe('connect', () => {
  it('ends all threads and says why when the model or its tokenizer cannot be loaded', async () => {
    const fails = (message: string) => async (): Promise<never> => {
      throw new Error(message);
    };
    const noModel = threadOf(engineApi({ load: fails('no config.json') }));
    const plain = textClientOn();
    await expect(connect(noModel, plain.text, loadOptions, () => {})).rejects.toThrow('no config.json');
    const thread = threadOf(engineApi({ load: () => new Promise(() => {}) }));
    const broken = textClientOn({ ...plainText, loadTokenizer: fails('no tokenizer.json') });
    await expect(connect(thread, broken.text, loadOptions, () => {})).rejects.toThrow('no tokenizer.json');
    for (const { terminated } of [noModel, thread, ...plain.threads, ...broken.threads]) {
      expect(terminated).toBe(true);
    }
  });

  it('passes progress on', async () => {
    const { loader } = engineOn(new FakeRunner());
    const host = new EngineHost(platform, (options, context) => {
      context.onProgress({ stage: 'device', done: 1, total: 1, unit: 'steps', detail: 'cpu' });
      return loader(options, context);
    });
    const seen: string[] = [];
    const client = await connect(threadOf(host), textClientOn().text, loadOptions, ({ stage }) => {
      seen.push(stage);
    });
    clients.push(client);
    await vi.waitFor(() => expect(seen).toEqual(['device']));
  });
});

describe('stats and dispose', () => {
  it('stats fails when the thread does not answer in time', async () => {
    const { client } = await connected(engineApi({ stats: () => new Promise(() => {}) as never }));
    clients.push(client);
    await expect(client.stats(20)).rejects.toThrow(/no answer for 20 ms/);
  });

  it('dispose fails live requests, ends the threads, may be called twice, and leaves no timer', async () => {
    const { client, thread } = await real();
    const stream = await client.generate(request({ maxTokens: 50, ignoreEos: true }));
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    await Promise.all([client.dispose(), client.dispose()]);
    expect(vi.getTimerCount()).toBe(0);
    vi.useRealTimers();
    await expect(read(stream)).rejects.toMatchObject({ error: { code: 'not_ready' } });
    expect(thread.terminated).toBe(true);
    await expect(client.generate(request())).rejects.toMatchObject({ error: { code: 'not_ready' } });
    await expect(client.encode('text')).rejects.toMatchObject({ error: { code: 'not_ready' } });
  });

  it('dispose ends a thread that does not answer', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const { client, thread } = await connected(engineApi({ shutdown: () => new Promise(() => {}) }));
    const disposal = client.dispose();
    await turns();
    expect(thread.terminated).toBe(false);
    vi.advanceTimersByTime(20_000);
    vi.useRealTimers();
    await disposal;
    expect(thread.terminated).toBe(true);
  });
});
