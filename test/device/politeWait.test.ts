import { describe, expect, it } from 'vitest';
import { waitPolitely } from '../../src/engine/device/webgpu/politeWait.ts';

/** Settles after `turns` turns of the event loop, as work that is polled for does. */
function afterTurns<T>(turns: number, value: T): Promise<T> {
  return new Promise((resolve) => {
    const turn = (left: number): void => void (left === 0 ? resolve(value) : setImmediate(turn, left - 1));
    turn(turns);
  });
}

describe('waitPolitely', () => {
  it('hands on results and errors', async () => {
    expect(await waitPolitely(afterTurns(3, 'done'))).toBe('done');
    await expect(waitPolitely(Promise.reject(new Error('gone')))).rejects.toThrow('gone');
  });

  it('sleeps once a turn, however many waits came before or run beside', async () => {
    const turns = 40;
    const timeOf = async (waits: number): Promise<number> => {
      const started = performance.now();
      await Promise.all(Array.from({ length: waits }, () => waitPolitely(afterTurns(turns, 0))));
      return performance.now() - started;
    };
    const before = Math.min(await timeOf(1), await timeOf(1), await timeOf(1));
    for (let i = 0; i < 300; i++) await waitPolitely(Promise.resolve());
    const after = Math.min(await timeOf(20), await timeOf(20), await timeOf(20));
    // 300 waits that each left a loop behind would make a turn 300 times as long.
    expect(after).toBeLessThan(before * 20);
  });

  it('uses little processor time', async () => {
    const cpu = process.cpuUsage();
    const started = performance.now();
    await waitPolitely(new Promise((resolve) => setTimeout(resolve, 300)));
    const used = process.cpuUsage(cpu);
    const share = (used.user + used.system) / 1000 / (performance.now() - started);
    expect(share).toBeLessThan(0.5);
  });
});
