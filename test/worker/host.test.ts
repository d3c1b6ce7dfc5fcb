import { describe, expect, it, vi } from 'vitest';
import type { RequestEvent } from '../../src/protocol.ts';
import { EngineHost } from '../../src/worker/host.ts';
import type { EngineLoader } from '../../src/worker/loadEngine.ts';
import { ask, FakeRunner } from '../engine/fakeRunner.ts';
import { engineOn, loadOptions, platform, turns, type TestEngine } from './inOneThread.ts';

interface Loaded extends TestEngine {
  host: EngineHost;
  events: RequestEvent[];
  ends: () => RequestEvent[];
}

async function loadedHost(runner = new FakeRunner()): Promise<Loaded> {
  const engine = engineOn(runner);
  const host = new EngineHost(platform, engine.loader);
  const events: RequestEvent[] = [];
  host.events((more) => events.push(...more));
  await host.load(loadOptions, () => {});
  return Object.assign(engine, { host, events, ends: () => events.filter(({ type }) => type !== 'tokens') });
}

/** A runner whose next step waits until it is told to go on. */
function stuckRunner(): { runner: FakeRunner; goOn: () => void } {
  const runner = new FakeRunner();
  const launch = runner.launch.bind(runner);
  let goOn = (): void => {};
  const gate = new Promise<void>((resolve) => (goOn = resolve));
  runner.launch = async (batch) => {
    const step = await launch(batch);
    return {
      collect: async () => {
        await gate;
        return step.collect();
      },
    };
  };
  return { runner, goOn };
}

describe('EngineHost', () => {
  it('runs what is submitted, sleeps, and wakes again', async () => {
    const { host, ends } = await loadedHost();
    for (const id of ['a', 'b']) {
      expect(host.submit(ask(id, [1, 2, 3]))).toEqual({ accepted: true });
      await vi.waitFor(() => expect(ends().at(-1)).toMatchObject({ type: 'end', id }));
    }
    expect(host.stats()).toMatchObject({ state: 'ready', kvPagesUsed: 0, requestsAccepted: 2, running: 0 });
    await host.shutdown();
  });

  it('refuses requests before the load and after the shutdown', async () => {
    const host = new EngineHost(platform, engineOn(new FakeRunner()).loader);
    const refused = { accepted: false, error: { code: 'not_ready' } };
    expect(host.submit(ask('early', [1]))).toMatchObject(refused);
    host.abort('nobody');
    expect(host.stats()).toMatchObject({ state: 'loading', heartbeatAge: 0 });
    await host.load(loadOptions, () => {});
    await host.shutdown();
    expect(host.submit(ask('late', [1]))).toMatchObject(refused);
    await expect(host.load(loadOptions, () => {})).rejects.toThrow('model already');
  });

  it('loads one model, and may try again when that failed', async () => {
    const { loader } = engineOn(new FakeRunner());
    let fails = true;
    const host = new EngineHost(platform, async (...args) => {
      await turns(1);
      if (fails) throw new Error('no such model');
      return loader(...args);
    });
    await expect(host.load(loadOptions, () => {})).rejects.toThrow('no such model');
    fails = false;
    const load = host.load(loadOptions, () => {});
    await expect(host.load(loadOptions, () => {})).rejects.toThrow(/has a model already/);
    await load;
    await expect(host.load(loadOptions, () => {})).rejects.toThrow(/has a model already/);
    await host.shutdown();
  });

  it('shows a step that hangs as an old heartbeat, and idleness as none', async () => {
    const { runner, goOn } = stuckRunner();
    const { host, ends } = await loadedHost(runner);
    await new Promise((resolve) => setTimeout(resolve, 40));
    expect(host.stats().heartbeatAge).toBe(0);
    host.submit(ask('x', [1]));
    await new Promise((resolve) => setTimeout(resolve, 40));
    const age = host.stats().heartbeatAge;
    expect(age).toBeGreaterThan(0.03);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(host.stats().heartbeatAge).toBeGreaterThan(age);
    goOn();
    await vi.waitFor(() => expect(ends()).toHaveLength(1));
    expect(host.stats().heartbeatAge).toBe(0);
    await host.shutdown();
  });

  it('shuts down after the running step, and fails what was live', async () => {
    const { runner, goOn } = stuckRunner();
    const loaded = await loadedHost(runner);
    const { host, ends } = loaded;
    host.submit(ask('a', [1], { maxTokens: 50 }));
    host.submit(ask('b', [2], { maxTokens: 50 }));
    await turns();
    const down = host.shutdown();
    await turns();
    expect(loaded.closed).toBe(false); // the step still uses the device
    goOn();
    await Promise.all([down, host.shutdown()]);
    expect(loaded.closed).toBe(true);
    expect(ends().map(({ id }) => id)).toEqual(['a', 'b']);
    expect(ends()[0]).toMatchObject({ type: 'error', error: { code: 'not_ready' } });
  });

  it('ends a load that is under way when it is shut down', async () => {
    const aware: EngineLoader = (_options, { signal }) =>
      new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    const host = new EngineHost(platform, aware);
    const load = host.load(loadOptions, () => {});
    await host.shutdown();
    await expect(load).rejects.toThrow(/shut down/);

    const engine = engineOn(new FakeRunner());
    let finish = (): void => {};
    const unaware = new EngineHost(platform, async (...args) => {
      await new Promise<void>((resolve) => (finish = resolve));
      return engine.loader(...args);
    });
    const late = unaware.load(loadOptions, () => {});
    const down = unaware.shutdown();
    finish();
    await expect(late).rejects.toThrow(/shut down/);
    await down;
    expect(engine.closed).toBe(true);
  });

  it('fails all requests and says so when the device is lost', async () => {
    const loaded = await loadedHost();
    const { host, ends } = loaded;
    for (const id of ['a', 'b', 'c']) host.submit(ask(id, [1, 2], { maxTokens: 60 }));
    await turns(3);
    loaded.lose('unplugged');
    await vi.waitFor(() => expect(ends()).toHaveLength(3));
    for (const end of ends()) expect(end).toMatchObject({ type: 'error', error: { code: 'device_lost' } });
    expect(host.stats()).toMatchObject({ state: 'lost', kvPagesUsed: 0 });
    expect(host.submit(ask('d', [1]))).toMatchObject({ accepted: false, error: { code: 'not_ready' } });
    await host.shutdown();
  });

  it('fails all requests and says so when a step throws what it should not', async () => {
    const log = vi.spyOn(console, 'error').mockImplementation(() => {});
    const { host, ends, engine } = await loadedHost();
    for (const id of ['a', 'b', 'c']) host.submit(ask(id, [1, 2], { maxTokens: 60 }));
    await turns(3);
    engine.scheduler.next = () => {
      throw new Error('the books are wrong');
    };
    await vi.waitFor(() => expect(ends()).toHaveLength(3));
    expect(new Set(ends().map(({ id }) => id))).toEqual(new Set(['a', 'b', 'c']));
    for (const end of ends()) {
      expect(end).toMatchObject({
        error: { code: 'internal', message: expect.stringContaining('the books') },
      });
    }
    expect(host.stats().state).toBe('lost');
    expect(host.submit(ask('d', [1])).accepted).toBe(false);
    expect(log).toHaveBeenCalled();
    await host.shutdown();
    log.mockRestore();
  });

  it('ends one request when submitting it throws, and serves the others', async () => {
    const { host, ends } = await loadedHost();
    const broken = { id: 'broken' } as ReturnType<typeof ask>;
    expect(host.submit(broken)).toMatchObject({ accepted: false, error: { code: 'internal' } });
    host.submit(ask('good', [1]));
    await vi.waitFor(() => expect(ends().map(({ id }) => id)).toEqual(['good']));
    await host.shutdown();
  });

  it('goes on when the front end throws at events and at progress', async () => {
    const log = vi.spyOn(console, 'error').mockImplementation(() => {});
    const { engine, loader } = engineOn(new FakeRunner());
    const host = new EngineHost(platform, (options, context) => {
      context.onProgress({ stage: 'device', done: 0, total: 1, unit: 'steps', detail: 'cpu' });
      return loader(options, context);
    });
    host.events(() => Promise.reject(new Error('the page is gone')) as unknown as void);
    await host.load(loadOptions, () => {
      throw new Error('no terminal');
    });
    host.submit(ask('a', [1]));
    await vi.waitFor(() =>
      expect(host.stats()).toMatchObject({ requestsAccepted: 1, running: 0, waiting: 0 }),
    );
    expect(engine.pool.used).toBe(0);
    await vi.waitFor(() => expect(log).toHaveBeenCalledTimes(host.stats().steps + 1));
    await host.shutdown();
    log.mockRestore();
  });
});
