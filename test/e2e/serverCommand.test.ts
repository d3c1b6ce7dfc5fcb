/** `nanoflow serve` and `generate` as processes: what they print, how they end. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { packageRoot } from '../../src/worker/node/client.ts';
import { postJson } from './embeddedServer.ts';

const processes: ChildProcess[] = [];
afterEach(() => {
  for (const child of processes.splice(0)) child.kill('SIGKILL');
});

class Run {
  out = '';
  err = '';
  readonly child: ChildProcess;
  readonly exit: Promise<number | null>;

  constructor(args: string[], env: Record<string, string> = {}) {
    this.child = spawn(process.execPath, [join(packageRoot(), 'bin', 'nanoflow.js'), ...args], {
      env: { ...process.env, NANOFLOW_API_KEY: '', ...env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    processes.push(this.child);
    this.child.stdout!.on('data', (data) => (this.out += data));
    this.child.stderr!.on('data', (data) => (this.err += data));
    this.exit = once(this.child, 'close').then(([code]) => code as number | null);
  }

  /** Waits for a text on standard output. */
  async said(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const match = pattern.exec(this.out);
      if (match) return match;
      if (this.child.exitCode !== null) throw new Error(`ended with ${this.child.exitCode}: ${this.err}`);
      await sleep(20);
    }
  }
}

/** A server on a free port, on the device that needs nothing. */
async function serve(...more: string[]): Promise<{ run: Run; url: string }> {
  const run = new Run(['serve', '--port', '0', '--device', 'cpu', ...more]);
  const [, url] = await run.said(/^serving +(\S+)/m);
  await run.said(/^try +curl/m);
  return { run, url };
}
const long = { prompt: 'Once', max_tokens: 100_000, ignore_eos: true, stream: true };

describe('nanoflow serve', () => {
  it('prints device, model, address and a curl line that works', async () => {
    const { run, url } = await serve();
    expect(run.out).toMatch(/^nanoflow \d+\.\d+\.\d+$/m);
    expect(run.out).toMatch(/^device +cpu: ./m);
    expect(run.out).toMatch(
      /^model +embedded \(\w+ForCausalLM, [\d.]+ \w parameters, f\d\d, .*\), context \d+ tokens$/m,
    );
    expect(run.out).toMatch(/^kv +\d+ pages of 16 tokens/m);
    const [, path, body] = await run.said(
      /^try +curl \S+?(\/v1\S+) -H 'Content-Type: application\/json' -d '(.*)'$/m,
    );
    const answer = await postJson(url + path, { ...JSON.parse(body), max_tokens: 5 });
    expect(answer.status).toBe(200);
    expect((await fetch(`${url}/health`)).status).toBe(200);
    expect((await fetch(`${url}/ready`)).status).toBe(200);
    const page = await fetch(url);
    expect(page.headers.get('content-type')).toMatch(/^text\/html/);
    const config = await fetch(`${url}/models/embedded/config.json`);
    expect(await config.json()).toHaveProperty('vocab_size');
    run.child.kill('SIGTERM');
    expect(await run.exit).toBe(0);
  });

  it('lets a running answer finish at SIGTERM, and refuses new ones', async () => {
    const { run, url } = await serve('--served-model-name', 'mine');
    const answer = await postJson(`${url}/v1/completions`, { ...long, model: 'mine', max_tokens: 60 });
    run.child.kill('SIGTERM');
    await sleep(30);
    const refused = await postJson(`${url}/v1/completions`, { prompt: 'x' }).then(
      (response) => response.status,
      () => 'closed',
    );
    const text = await answer.text();
    expect([503, 'closed']).toContain(refused);
    expect(text).toMatch(/"finish_reason":"length"/);
    expect(text).toMatch(/data: \[DONE\]\n\n$/);
    expect(await run.exit).toBe(0);
  });

  it('aborts what is not done within the grace period', async () => {
    const { run, url } = await serve('--grace-seconds', '0.2');
    const answer = await postJson(`${url}/v1/completions`, { ...long, ...{ n: 4 } });
    run.child.kill('SIGTERM');
    const text = await answer.text();
    // A fast machine may reach the end of the context within the grace period.
    if (!text.includes('[DONE]'))
      expect(text).toMatch(/"finish_reason":"abort"[^]*data: {"error".*shutting_down/);
    expect(await run.exit).toBe(0);
  });

  it('ends at once at a second signal', async () => {
    const { run, url } = await serve();
    const answer = await postJson(`${url}/v1/completions`, { ...long, n: 16 });
    run.child.kill('SIGTERM');
    while (!run.err.includes('again to end now')) await sleep(10);
    const began = performance.now();
    run.child.kill('SIGTERM');
    const code = await run.exit;
    expect(performance.now() - began).toBeLessThan(2000);
    // 0: everything was done before the second signal came.
    expect([143, 0]).toContain(code);
    await answer.body?.cancel().catch(() => {});
  });

  it('asks for the key of the environment', async () => {
    const run = new Run(['serve', '--port', '0', '--device', 'cpu'], { NANOFLOW_API_KEY: 'secret' });
    const [, url] = await run.said(/^serving +(\S+)/m);
    expect((await fetch(`${url}/v1/models`)).status).toBe(401);
    const headers = { authorization: 'Bearer secret' };
    expect((await fetch(`${url}/v1/models`, { headers })).status).toBe(200);
    expect(run.out + run.err).not.toContain('secret');
  });
});

describe('nanoflow generate', () => {
  it('streams the text to standard output and figures to standard error', async () => {
    const { url, run: server } = await serve();
    const body = { prompt: 'Once upon a time', temperature: 0, max_tokens: 20 };
    const answer = (await (await postJson(`${url}/v1/completions`, body)).json()) as {
      choices: { text: string }[];
    };
    server.child.kill('SIGKILL');
    const run = new Run(['generate', '--device', 'cpu', '--max-tokens', '20']);
    run.child.stdin!.end('Once upon a time');
    expect(await run.exit).toBe(0);
    expect(run.out).toBe(`${answer.choices[0].text}\n`);
    expect(run.err).toMatch(
      /\d+ prompt tokens, \d+ tokens \(\w+\); first after \d+ ms, then [\d.]+ tokens\/s on cpu/,
    );
  });

  it('chats', async () => {
    const run = new Run(['generate', '--device', 'cpu', '--chat', '--max-tokens', '8', 'Hello']);
    expect(await run.exit).toBe(0);
    expect(run.out.length).toBeGreaterThan(1);
  });

  it('says in one line why a model can not be loaded', async () => {
    const run = new Run(['generate', '--device', 'cpu', '--model', join(packageRoot(), 'src'), 'x']);
    expect(await run.exit).toBe(1);
    expect(run.err).toMatch(/nanoflow: can not load .*config\.json/);
    expect(run.err).not.toContain('    at ');
  });
});

describe('nanoflow devices', () => {
  it('lists them, best first, the cpu last', async () => {
    const run = new Run(['devices', '--json']);
    expect(await run.exit).toBe(0);
    const kinds = (JSON.parse(run.out) as { kind: string; reason: string }[]).map(({ kind, reason }) => {
      expect(reason.length).toBeGreaterThan(5);
      return kind;
    });
    expect(kinds[0]).toBe('cuda');
    expect(kinds.at(-1)).toBe('cpu');
  });
});

describe('nanoflow bench', () => {
  it('prints and saves figures', async () => {
    const options = ['--streams', '1,2', '--prompt-tokens', '8', '--output-tokens', '6', '--runs', '1'];
    const file = join(packageRoot(), '.cache', `bench-${process.pid}.json`);
    const run = new Run(['bench', 'throughput', '--device', 'cpu', ...options, '--json', file]);
    expect(await run.exit).toBe(0);
    expect(run.out).toMatch(/streams +prompt +output +total tok\/s/);
    const { readFile, rm } = await import('node:fs/promises');
    const saved = JSON.parse(await readFile(file, 'utf8'));
    expect(saved).toMatchObject({
      name: 'throughput',
      device: 'cpu',
      command: expect.stringContaining('--runs 1'),
    });
    expect(saved.rows.map((row: { streams: number }) => row.streams)).toEqual([1, 2]);
    expect(saved.rows.every((row: { totalRate: number }) => row.totalRate > 0)).toBe(true);
    await rm(file);
  });
});
