import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { formatBytes, ProgressLine } from '../../src/cli/progress.ts';
import { pull, pullCommand } from '../../src/cli/pull.ts';
import { FakeHub } from '../hub/fakeHub.ts';

test('pull shows its progress up to the last byte', async () => {
  const cache = await mkdtemp(join(tmpdir(), 'pull-'));
  const hub = new FakeHub();
  await hub.listen();
  for (const path of ['config.json', 'tokenizer.json', 'model.safetensors']) hub.add(path, path.repeat(1000));
  const lines: string[] = [];
  try {
    const model = await pull('o/m', { cache, hubUrl: hub.url }, { write: (text) => lines.push(text) });
    expect(model.name).toBe('o/m');
    expect(lines.at(-1)).toMatch(/^100% 42\.0 kB of 42\.0 kB.* model\.safetensors\n$/);
    const quiet: string[] = [];
    await pull('o/m', { cache, hubUrl: hub.url, quiet: true }, { write: (text) => quiet.push(text) });
    expect(quiet).toEqual([]);
  } finally {
    await hub.close();
    await rm(cache, { recursive: true });
  }
});

test('the line on a terminal stays within its width and ends with a new line', () => {
  let written = '';
  const line = new ProgressLine({ isTTY: true, columns: 40, write: (text) => (written += text) });
  line.update(0, 100, 'a'.repeat(200));
  line.update(100, 100, 'b');
  line.end();
  for (const part of written.split('\r\x1b[K')) expect(part.trimEnd().length).toBeLessThan(40);
  expect(written).toContain('100%');
  expect(written.endsWith('\n')).toBe(true);
});

test('amounts of bytes', () => {
  const amounts = [0, 999, 1000, 1_234_567, 2e9, 3e15];
  expect(amounts.map(formatBytes)).toEqual(['0 B', '999 B', '1.0 kB', '1.2 MB', '2.0 GB', '3000.0 TB']);
});

test('the command describes itself', () => {
  const help = pullCommand().helpInformation();
  for (const word of ['<repo>', '--revision', '--cache', '--quiet']) expect(help).toContain(word);
});
