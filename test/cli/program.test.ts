/** The command line as a user meets it: help, mistakes in one line, exit codes. */
import { createServer } from 'node:net';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { run } from '../../src/cli/program.ts';

let out = '';
let err = '';

beforeEach(() => {
  out = '';
  err = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => ((out += text), true));
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => ((err += text), true));
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
});

describe('help', () => {
  it('names every command', async () => {
    expect(await run(['--help'])).toBe(0);
    for (const name of ['serve', 'generate', 'pull', 'bench', 'devices']) expect(out).toContain(`  ${name}`);
  });

  it.each([
    ['serve'],
    ['generate'],
    ['pull'],
    ['bench'],
    ['devices'],
    ['bench', 'throughput'],
    ['bench', 'kernels'],
  ])('of %s %s says what it is for', async (...command) => {
    expect(await run([...command, '--help'])).toBe(0);
    expect(out).toContain(`Usage: `);
    expect(out).toContain(command.at(-1));
    expect(err).toBe('');
  });

  it('of serve lists its options', async () => {
    await run(['serve', '--help']);
    const options = [
      '--model',
      '--device',
      '--host',
      '--port',
      '--api-key',
      '--max-batch-tokens',
      '--kv-memory',
    ];
    for (const option of [...options, '--served-model-name', '--insecure']) expect(out).toContain(option);
    expect(out).toContain('Examples:');
  });

  it('tells the version', async () => {
    expect(await run(['--version'])).toBe(0);
    expect(out).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe('mistakes', () => {
  it.each([
    [['nonsense'], 'unknown command'],
    [['serve', '--nonsense'], "unknown option '--nonsense'"],
    [['serve', '--port', 'abc'], 'Expected a whole number from 0 to 65535'],
    [['serve', '--port', '70000'], 'Expected a whole number from 0 to 65535'],
    [['serve', '--port', '80.5'], 'Expected a whole number'],
    [['serve', '--device', 'tpu'], 'Allowed choices are auto, cuda, webgpu, cpu'],
    [['serve', '--kv-memory', 'lots'], '512MiB'],
    [['serve', 'model-without-option'], 'too many arguments'],
    [['generate', '--temperature', 'hot', 'x'], 'from 0 to 2'],
    [['bench', 'throughput', '--streams', '1,x'], 'whole number'],
    [['bench', 'nonsense'], 'unknown command'],
  ])('%j is wrong use: exit code 2', async (argv, message) => {
    expect(await run(argv)).toBe(2);
    expect(err).toContain(message);
    expect(err).not.toContain('    at ');
  });

  it.each([
    [['serve', '--host', '0.0.0.0', '--port', '0'], '--api-key'],
    [['serve', '--port', '0', '--api-key', 'two words'], '--api-key must be'],
    [['serve', '--port', '0', '--host', 'no-such-host.invalid'], 'no-such-host.invalid'],
    [['serve', '--port', '0', '--model', './no/such/folder'], 'there is no directory ./no/such/folder'],
    [['serve', '--port', '0', '--model', 'package.json'], 'is a file'],
    [['generate', '--system', 'x', 'hello'], '--system needs --chat'],
    [['generate', ''], 'the prompt is empty'],
  ])('%j can not be done: exit code 1 and one line', async (argv, message) => {
    vi.stubEnv('NANOFLOW_API_KEY', undefined);
    expect(await run(argv)).toBe(1);
    expect(err).toContain(message);
    expect(err.trim().split('\n')).toHaveLength(1);
    expect(err).toMatch(/^nanoflow: /);
  });

  it('a port in use is found before the model is loaded', async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const { port } = other.address() as { port: number };
    expect(await run(['serve', '--port', String(port), '--model', './no/such/folder'])).toBe(1);
    expect(err).toBe(
      `nanoflow: port ${port} on 127.0.0.1 is in use: stop the other program, or choose another with --port\n`,
    );
    await new Promise((resolve) => other.close(resolve));
  });
});
