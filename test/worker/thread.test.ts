import { describe, expect, it, vi } from 'vitest';
import { LimitedThread } from '../../src/worker/limitedThread.ts';
import { ThreadCalls } from '../../src/worker/thread.ts';
import { threadOf, turns, type TestThread } from './inOneThread.ts';

const never = (): Promise<string> => new Promise(() => {});

class Worker {
  prepared = 0;
  prepare(): void {
    this.prepared++;
  }
  echo(text: string): string {
    if (this.prepared === 0) throw new Error('not prepared');
    return text;
  }
  hang(): Promise<string> {
    return never();
  }
  fail(): string {
    throw new Error('refused');
  }
}

describe('ThreadCalls', () => {
  it('fails every waiting call, and every later one, when the thread ends', async () => {
    const thread = threadOf(new Worker());
    const calls = new ThreadCalls(thread);
    const waiting = [1, 2, 3].map(() => calls.call((api) => api.hang()));
    await turns(2);
    thread.crash('out of luck');
    const results = await Promise.allSettled(waiting);
    expect(results.map((result) => result.status === 'rejected' && result.reason)).toEqual(
      [1, 2, 3].map(() =>
        expect.objectContaining({ name: 'ThreadError', kind: 'ended', message: 'out of luck' }),
      ),
    );
    expect(calls.ended).toBe('out of luck');
    await expect(calls.call((api) => api.echo('late'))).rejects.toMatchObject({ kind: 'ended' });
  });

  it('fails a call that is not answered in time, and no other', async () => {
    const calls = new ThreadCalls(threadOf(new Worker()));
    await calls.call((api) => api.prepare());
    const slow = calls.call((api) => api.hang(), 30);
    expect(await calls.call((api) => api.echo('still here'))).toBe('still here');
    await expect(slow).rejects.toMatchObject({ kind: 'silent' });
    expect(await calls.call((api) => api.echo('and here'), 10_000)).toBe('and here');
    await calls.terminate('done');
  });

  it('leaves nothing behind for each call: no timer, no port', async () => {
    const thread = threadOf(new Worker());
    const calls = new ThreadCalls(thread);
    await calls.call((api) => api.prepare());
    const then = vi.spyOn(thread.crashed, 'then');
    const active = (): number => process.getActiveResourcesInfo().length;
    const before = active();
    for (let i = 0; i < 50; i++) {
      await calls.call((api) => api.echo('x'), 60_000);
      await calls.call((api) => api.fail(), 60_000).catch(() => {});
    }
    expect(active()).toBeLessThan(before + 5);
    expect(then).not.toHaveBeenCalled();
    await calls.terminate('done');
  });
});

describe('LimitedThread', () => {
  function limited(): { thread: LimitedThread<Worker>; started: TestThread<Worker>[] } {
    const started: TestThread<Worker>[] = [];
    const thread = new LimitedThread<Worker>(
      () => {
        const next = threadOf(new Worker());
        started.push(next);
        return next;
      },
      (api) => api.prepare(),
    );
    return { thread, started };
  }

  it('replaces a thread that breaks its limit, or ends: only that call fails, the queue goes on', async () => {
    const { thread, started } = limited();
    const first = thread.run((api) => api.echo('1'), 5000);
    const hung = thread.run((api) => api.hang(), 50);
    const second = thread.run((api) => api.echo('2'), 5000);
    const refused = thread.run((api) => api.fail(), 5000);
    const third = thread.run((api) => api.echo('3'), 5000);
    await expect(hung).rejects.toMatchObject({ kind: 'silent' });
    await expect(refused).rejects.toThrow('refused');
    expect(await Promise.all([first, second, third])).toEqual(['1', '2', '3']);
    expect(started.map(({ terminated }) => terminated)).toEqual([true, false]);

    const crashing = thread.run((api) => api.hang(), 60_000);
    await turns();
    started[1].crash('memory');
    await expect(crashing).rejects.toThrow('memory');
    expect(await thread.run((api) => api.echo('4'), 5000)).toBe('4');

    started[2].crash('between two calls');
    await turns();
    expect(await thread.run((api) => api.echo('5'), 5000)).toBe('5');
    expect(started).toHaveLength(4);
    await thread.dispose('done');
    expect(started.every(({ terminated }) => terminated)).toBe(true);
  });

  it('counts only the call itself, not its time in the queue', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      const { thread } = limited();
      const answers: ((text: string) => void)[] = [];
      const wait = (): Promise<string> => new Promise((resolve) => answers.push(resolve));
      const calls = Array.from({ length: 5 }, () => thread.run(wait, 300));
      for (let i = 0; i < calls.length; i++) {
        while (answers.length <= i) await turns(1);
        vi.advanceTimersByTime(200);
        answers[i](`${i}`);
      }
      expect(await Promise.all(calls)).toEqual(['0', '1', '2', '3', '4']);
      await thread.dispose('done');
    } finally {
      vi.useRealTimers();
    }
  });

  it('fails what waits when it is disposed of, also while a thread is being made ready', async () => {
    const started: TestThread<Worker>[] = [];
    const thread = new LimitedThread<Worker>(
      () => {
        started.push(threadOf(new Worker()));
        return started[0];
      },
      () => never(),
    );
    const calls = [1, 2].map(() => thread.run((api) => api.echo('x'), 5000));
    await turns();
    await thread.dispose('shut down');
    for (const call of calls) await expect(call).rejects.toThrow('shut down');
    expect(started.map(({ terminated }) => terminated)).toEqual([true]);
  });

  it('says when a thread cannot be started, and tries again at the next call', async () => {
    let broken = true;
    const thread = new LimitedThread<Worker>(
      () => threadOf(new Worker()),
      async (api) => {
        if (broken) throw new Error('no such file');
        await api.prepare();
      },
    );
    await expect(thread.start()).rejects.toThrow('no such file');
    broken = false;
    expect(await thread.run((api) => api.echo('x'))).toBe('x');
    await thread.dispose('done');
  });
});
