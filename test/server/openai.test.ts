/** The official client against a listening server. */
import OpenAI, {
  APIUserAbortError,
  AuthenticationError,
  BadRequestError,
  NotFoundError,
  RateLimitError,
} from 'openai';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Server, startServer } from '../../src/server/main.ts';
import { FakeClient } from './fakeClient.ts';

let server: Server;
let openai: OpenAI;
const engine = new FakeClient({ tokenMs: 1 });
const messages = [{ role: 'user' as const, content: 'Hello' }];
const model = 'fake-model';

beforeAll(async () => {
  server = await startServer({ client: engine, version: '0', host: '127.0.0.1', port: 0, apiKeys: ['key'] });
  openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'key', maxRetries: 0 });
});
afterAll(() => server.stop(0));

describe('the openai client', () => {
  it('chats', async () => {
    const answer = await openai.chat.completions.create({ model, messages, temperature: 0 });
    expect(answer.choices[0].message.role).toBe('assistant');
    expect(answer.choices[0].message.content!.length).toBeGreaterThan(10);
    expect(answer.usage!.total_tokens).toBe(answer.usage!.prompt_tokens + answer.usage!.completion_tokens);
  });

  it('streams, and its helper puts the same answer together', async () => {
    const whole = await openai.chat.completions.create({ model, messages, temperature: 0, logprobs: true });
    const stream = openai.chat.completions.stream({
      model,
      messages,
      temperature: 0,
      logprobs: true,
      stream_options: { include_usage: true },
    });
    const final = await stream.finalChatCompletion();
    expect(final.choices[0].message.content).toBe(whole.choices[0].message.content);
    expect(final.choices[0].finish_reason).toBe('stop');
    expect(final.choices[0].logprobs!.content).toHaveLength(whole.usage!.completion_tokens);
    expect(final.usage).toEqual(whole.usage);
  });

  it('completes batches of prompts, as text and as tokens', async () => {
    const texts = await openai.completions.create({ model, prompt: ['Hello', 'Bye'], n: 2, temperature: 0 });
    expect(texts.choices.map((choice) => choice.index)).toEqual([0, 1, 2, 3]);
    expect(texts.choices[0].text).toBe(texts.choices[1].text);
    const tokens = await openai.completions.create({
      model,
      prompt: [256, 72, 101, 108, 108, 111],
      temperature: 0,
    });
    expect(tokens.choices[0].text).toBe(texts.choices[0].text);
  });

  it('gets the same text for the same seed', async () => {
    const draw = async (seed: number) => {
      const answer = await openai.chat.completions.create({ model, messages, seed, temperature: 1 });
      return answer.choices[0].message.content;
    };
    expect(await draw(1)).toBe(await draw(1));
    expect(await draw(1)).not.toBe(await draw(2));
  });

  it('lists models', async () => {
    const models = await openai.models.list();
    expect(models.data.map((item) => item.id)).toEqual([model]);
    expect((await openai.models.retrieve(model)).object).toBe('model');
  });

  it('throws its own errors', async () => {
    const chat = openai.chat.completions;
    await expect(chat.create({ model: 'other', messages })).rejects.toThrow(NotFoundError);
    await expect(chat.create({ model, messages, temperature: 9 })).rejects.toThrow(BadRequestError);
    await expect(chat.create({ model, messages, temperature: 9 })).rejects.toMatchObject({
      param: 'temperature',
    });
    const stranger = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'wrong' });
    await expect(stranger.models.list()).rejects.toThrow(AuthenticationError);
  });

  it('retries when the queue is full, and gives up with a rate limit error', async () => {
    const full = new FakeClient({ capacity: 0 });
    const busy = await startServer({ client: full, version: '0', host: '127.0.0.1', port: 0 });
    const client = new OpenAI({ baseURL: `${busy.url}/v1`, apiKey: 'x', maxRetries: 0 });
    await expect(client.chat.completions.create({ model, messages })).rejects.toThrow(RateLimitError);
    await busy.stop(0);
  });

  it('aborts in the middle of a stream', async () => {
    const before = engine.aborted;
    const stream = await openai.completions.create({ model, prompt: 'x', stream: true, max_tokens: 400 });
    for await (const chunk of stream) if (chunk.choices[0].text.length >= 0) break;
    const abort = new AbortController();
    const whole = openai.completions.create(
      { model, prompt: 'x', max_tokens: 400 },
      { signal: abort.signal },
    );
    await sleep(30);
    abort.abort();
    await expect(whole).rejects.toThrow(APIUserAbortError);
    await sleep(50);
    expect(engine.live).toBe(0);
    expect(engine.aborted).toBe(before + 2);
  });

  it('runs 64 streams at the same time, each with its own text', async () => {
    const texts = await Promise.all(
      Array.from({ length: 64 }, async (_, i) => {
        const stream = await openai.completions.create({
          model,
          prompt: `number ${i}`,
          temperature: 0,
          stream: true,
        });
        let text = '';
        for await (const chunk of stream) text += chunk.choices[0].text;
        return text;
      }),
    );
    expect(new Set(texts).size).toBeGreaterThan(32);
    const alone = await openai.completions.create({ model, prompt: 'number 5', temperature: 0 });
    expect(texts[5]).toBe(alone.choices[0].text);
  });
});
