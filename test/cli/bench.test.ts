/** The bench commands: the same options everywhere, contradictions found, records saved where they are asked for. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Command } from 'commander';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { benchCommand } from '../../src/cli/bench.ts';
import { saveRecord } from '../../src/cli/benchRecord.ts';
import { runBench } from '../../src/cli/benchSource.ts';
import { DEFAULT_GPU, resolveTarget } from '../../src/cli/benchTarget.ts';
import { run } from '../../src/cli/program.ts';
import { CliError } from '../../src/cli/values.ts';
import { BenchError, usage } from '../../bench/serving/benchError.ts';

let out = '';
let err = '';

beforeEach(() => {
  out = '';
  err = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => ((out += text), true));
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => ((err += text), true));
});
afterEach(() => void vi.restoreAllMocks());

const commands = benchCommand().commands.map((command): [string, Command] => [command.name(), command]);

describe('every bench', () => {
  it.each(commands)('%s takes --json, --trace and --no-save', (_, command) => {
    const flags = command.options.map(({ long }) => long);
    expect(flags).toEqual(expect.arrayContaining(['--json', '--trace', '--no-save']));
    expect(flags).not.toContain('--out');
  });

  it.each(commands)('%s says what it is for, and runs from bench/ of this clone', async (name, command) => {
    expect(command.description().length).toBeGreaterThan(30);
    expect(await run(['bench', name, '--help'])).toBe(0);
    expect(out).toContain(`nanoflow bench ${name}`);
  });

  it.each(commands.filter(([, { options }]) => options.some(({ long }) => long === '--gpu')))(
    '%s lists sim among its devices and refuses a GPU to simulate on a real one',
    async (name, command) => {
      expect(command.options.find(({ long }) => long === '--device')?.argChoices).toContain('sim');
      expect(await run(['bench', name, '--gpu', 'h100', '--device', 'cpu'])).toBe(1);
      expect(err).toBe(
        'nanoflow: --gpu h100 names a simulated GPU, but --device is cpu: leave one of them out\n',
      );
    },
  );

  it.each([
    [['throughput', '--model', 'no-such-shape', '--device', 'cpu'], "'no-such-shape'"],
    [['throughput', '--workload', 'x.csv', '--device', 'cpu'], 'traces are for the simulator'],
    [['throughput', '--gpu', 'no-such-gpu'], 'a100-80'],
    [['throughput', '--gpu', 'h100', '--model', 'no-such-shape'], 'llama-2-70b'],
    [['throughput', '--gpu', 'h100', '--model', 'llama-3-8b', '--workload', '0:x'], "'0:x'"],
    [['ablation', '--gpu', 'no-such-gpu'], 'a100-80'],
    [['ablation', '--gpu', 'h100', '--model', 'no-such-shape'], 'llama-2-70b'],
    [['ablation', '--device', 'cpu', '--model', 'no-such-shape'], 'llama-3-8b'],
    [['ablation', '--workload', '8:8', '--decode', '3'], 'leave --decode and --context out'],
    [['ablation', '--gpu', 'h100', '--model', 'llama-3-8b', '--tokens', '8', '--decode', '9'], '--decode 9'],
  ])('%j is one line that lists what there is', async (argv, message) => {
    expect(await run(['bench', ...argv, '--no-save'])).toBe(1);
    expect(err).toContain(message);
    expect(err.trim().split('\n')).toHaveLength(1);
  });
});

describe('what runs where', () => {
  it('a GPU preset means the simulator; the simulator has a default one', () => {
    expect(resolveTarget({ device: 'auto', gpu: 'h100' })).toEqual({ device: 'sim', gpu: 'h100' });
    expect(resolveTarget({ device: 'sim' })).toEqual({ device: 'sim', gpu: DEFAULT_GPU });
    expect(resolveTarget({ device: 'auto' })).toEqual({ device: 'auto' });
    expect(() => resolveTarget({ device: 'webgpu', gpu: 'h100' })).toThrow(CliError);
  });

  it('wrong use found in bench/ is one line; other errors keep their stack', async () => {
    const wrong = () => usage(() => JSON.parse('{') as never);
    expect(wrong).toThrow(BenchError);
    await expect(runBench(async () => wrong())).rejects.toThrow(CliError);
    const bug = new TypeError('a bug');
    await expect(runBench(() => Promise.reject(bug))).rejects.toBe(bug);
    await expect(runBench(async () => 7)).resolves.toBe(7);
  });
});

describe('a record', () => {
  it('is saved under the name that was asked for, with what is needed to repeat it', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'bench-'));
    try {
      const json = join(folder, 'figures.json');
      const device = { kind: 'sim', name: 'a100-80x8' };
      const place = await saveRecord({ json, save: true }, 'ablation', device, { rows: [1] });
      expect(place).toBe(join(folder, 'figures'));
      expect(JSON.parse(await readFile(json, 'utf8'))).toMatchObject({
        name: 'ablation',
        device: 'sim (a100-80x8)',
        command: expect.stringMatching(/^nanoflow/),
        version: expect.stringMatching(/^\d/),
        machine: { cores: expect.any(Number) },
        rows: [1],
      });
      expect(err).toBe(`saved ${json}\n`);
      expect(await saveRecord({ save: false }, 'ablation', device, {})).toBeUndefined();
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
