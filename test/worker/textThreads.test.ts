import { fork } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ModelSource, TextApi } from '../../src/protocol.ts';
import { startProcess, startThread } from '../../src/worker/node/threads.ts';
import { TextClient } from '../../src/worker/textClient.ts';
import { ThreadCalls, type Thread } from '../../src/worker/thread.ts';
import { buildTextWorker, type Bundles } from './bundles.ts';

/** A template that does what the last message says. */
const TEMPLATE = `{%- set word = messages[-1].content -%}
{%- if word == 'loop' -%}
  {%- for i in range(100000) -%}{%- for j in range(100000) -%}{%- endfor -%}{%- endfor -%}
{%- elif word == 'many strings' -%}
  {%- set n = namespace(list=['x']) -%}
  {%- for i in range(40) -%}{%- set n.list = n.list + n.list -%}{%- endfor -%}
{%- elif word == 'one huge list' -%}
  {%- set n = namespace(text='xy') -%}
  {%- for i in range(22) -%}{%- set n.text = n.text ~ n.text -%}{%- endfor -%}
  {{ n.text.split('x') | length }}
{%- elif word == 'long answer' -%}
  {%- set n = namespace(text='xy') -%}
  {%- for i in range(20) -%}{%- set n.text = n.text ~ n.text -%}{%- endfor -%}
  {{ n.text }}
{%- elif word == 'refuse' -%}
  {{ raise_exception('roles must alternate') }}
{%- else -%}
  {%- for message in messages -%}<{{ message.role }}>{{ message.content }}{%- endfor -%}
{%- endif -%}`;

const MAX_MODEL_LEN = 512;
const MEGABYTES = 48;

let bundles: Bundles;
let folder: string;
let model: ModelSource;
const started: Thread<TextApi>[] = [];

beforeAll(async () => {
  bundles = await buildTextWorker();
  folder = mkdtempSync(join(tmpdir(), 'nanoflow-text-'));
  cpSync(fileURLToPath(new URL('../tokenizer/goldens/byte-level', import.meta.url)), folder, {
    recursive: true,
  });
  writeFileSync(join(folder, 'chat_template.jinja'), TEMPLATE);
  model = { kind: 'directory', path: folder };
});

afterAll(async () => {
  await Promise.all(started.map((thread) => thread.terminate()));
  await bundles.remove();
  rmSync(folder, { recursive: true });
});

function keep(thread: Thread<TextApi>): Thread<TextApi> {
  started.push(thread);
  return thread;
}

const startTemplate = (): Thread<TextApi> =>
  keep(startProcess<TextApi>(bundles.textWorker, 'chat template', MEGABYTES));

async function openText(templateMilliseconds: number): Promise<TextClient> {
  const startTokenizer = (): Thread<TextApi> => keep(startThread<TextApi>(bundles.textWorker, 'tokenizer'));
  const text = new TextClient({ startTokenizer, startTemplate }, { templateMilliseconds });
  await text.load(model);
  return text;
}

const chat = (text: TextClient, content: string) =>
  text.encodeChat([{ role: 'user', content }], { addGenerationPrompt: true }, MAX_MODEL_LEN);
const invalid = (message: RegExp) => ({
  name: 'GenerateError',
  error: { code: 'invalid', param: 'messages', message: expect.stringMatching(message) },
});

describe('text threads of Node', () => {
  it('ends a template that takes too much memory; the others in the queue are answered', async () => {
    const text = await openText(20_000); // the memory limit is met long before
    try {
      const words = ['before', 'many strings', 'between', 'one huge list', 'refuse', 'after'];
      const queue = Promise.allSettled(words.map((word) => chat(text, word)));
      // The tokenizer is another thread: it does not wait for templates.
      expect(await text.encode('abc', { addSpecialTokens: false }, MAX_MODEL_LEN)).not.toEqual([]);
      const results = (await queue).map((result) =>
        result.status === 'fulfilled' ? result.value.prompt : (result.reason as unknown),
      );
      expect(results).toEqual([
        '<user>before',
        expect.objectContaining(invalid(/needed more than 48 MB of memory/)),
        '<user>between',
        expect.objectContaining(invalid(/needed more than 48 MB of memory/)),
        expect.objectContaining(invalid(/roles must alternate/)),
        '<user>after',
      ]);
    } finally {
      await text.dispose();
    }
  });

  it('ends a template that loops, and refuses what can never fit or cannot be passed on', async () => {
    const text = await openText(600);
    try {
      await expect(chat(text, 'loop')).rejects.toMatchObject(invalid(/more than 600 ms/));
      const long = { error: { code: 'prompt_too_long', param: 'messages' } };
      await expect(chat(text, 'x'.repeat(64 * MAX_MODEL_LEN + 1))).rejects.toMatchObject(long);
      await expect(chat(text, 'x'.repeat(16 * MAX_MODEL_LEN + 1))).rejects.toMatchObject(long);
      await expect(chat(text, 'long answer')).rejects.toMatchObject(long);
      await expect(
        text.encode('x'.repeat(64 * MAX_MODEL_LEN + 1), { addSpecialTokens: true }, MAX_MODEL_LEN),
      ).rejects.toMatchObject({ error: { code: 'prompt_too_long', param: 'prompt' } });

      let deep: unknown = 'x';
      for (let i = 0; i < 20_000; i++) deep = [deep];
      const nested = text.encodeChat(
        [{ role: 'user', content: 'x', deep }],
        { addGenerationPrompt: true },
        512,
      );
      await expect(nested).rejects.toMatchObject({ error: { code: 'invalid', param: 'messages' } });
      expect((await chat(text, 'hello')).prompt).toBe('<user>hello');
    } finally {
      await text.dispose();
    }
  });

  it('a process that loops is gone as soon as it is ended', async () => {
    const thread = startTemplate();
    const calls = new ThreadCalls(thread);
    await calls.call((api) => api.loadTemplate(model));
    const options = { addGenerationPrompt: true, maxLength: 1000 };
    const looping = calls.call((api) => api.renderChat([{ role: 'user', content: 'loop' }], options));
    const [outcome] = await Promise.all([
      Promise.allSettled([looping]),
      sleep(50).then(() => calls.terminate('ended by the test')),
    ]);
    expect(outcome[0]).toMatchObject({ reason: { name: 'ThreadError', kind: 'ended' } });
    expect(await thread.crashed).toMatch(/SIGKILL/);
  });

  it('a process whose parent is gone ends by itself, and not by the signals of a terminal', async () => {
    const child = fork(bundles.textWorker, { serialization: 'advanced', stdio: 'ignore', execArgv: [] });
    const ended = once(child, 'exit');
    // Any answer shows that the entry has run.
    child.send({ id: '1', type: 'GET', path: ['nothing'] });
    await once(child, 'message');
    child.kill('SIGINT');
    child.kill('SIGTERM');
    child.send({ id: '2', type: 'GET', path: ['nothing'] });
    await once(child, 'message');
    child.disconnect();
    expect(await ended).toEqual([0, null]);
  });

  it('a thread that ends by itself says why, and fails the calls that wait', async () => {
    const file = join(folder, 'broken.mjs');
    writeFileSync(
      file,
      `import { parentPort } from 'node:worker_threads';
       parentPort.once('message', () => { throw new Error('a bug in the thread'); });`,
    );
    const thread = keep(startThread<TextApi>(file, 'broken'));
    const calls = new ThreadCalls(thread);
    await expect(calls.call((api) => api.loadTokenizer(model))).rejects.toThrow(
      'broken: a bug in the thread',
    );

    writeFileSync(file, 'process.exit(3);');
    const another = new ThreadCalls(keep(startThread<TextApi>(file, 'broken')));
    await expect(another.call((api) => api.loadTokenizer(model))).rejects.toThrow('exited with code 3');

    writeFileSync(file, 'throw new Error("it does not start")');
    const child = new ThreadCalls(keep(startProcess<TextApi>(file, 'broken', MEGABYTES)));
    await expect(child.call((api) => api.loadTokenizer(model))).rejects.toThrow(/broken ended with code 1/);
  });
});
