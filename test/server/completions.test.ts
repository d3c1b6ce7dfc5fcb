/** /v1/completions and /v1/chat/completions without a socket: shapes, fields, batches, errors by name. */
import type { FastifyInstance } from 'fastify';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createApp } from '../../src/server/app.ts';
import { FakeClient } from './fakeClient.ts';

let app: FastifyInstance;
const client = new FakeClient();

beforeAll(async () => {
  ({ app } = await createApp({ client, version: '1.2.3' }));
});
afterAll(() => app.close());

async function post(url: string, body: object): Promise<{ status: number; json: any }> {
  const response = await app.inject({ method: 'POST', url, payload: body });
  return { status: response.statusCode, json: response.json() };
}
const complete = (body: object) => post('/v1/completions', { prompt: 'Hello', temperature: 0, ...body });
const chat = (body: object) =>
  post('/v1/chat/completions', { messages: [{ role: 'user', content: 'Hello' }], temperature: 0, ...body });

/** Events of a streamed answer: parsed objects, and the end mark as the string "[DONE]". */
async function events(url: string, body: object): Promise<any[]> {
  const response = await app.inject({ method: 'POST', url, payload: { stream: true, ...body } });
  expect(response.statusCode).toBe(200);
  expect(response.headers['content-type']).toMatch(/^text\/event-stream/);
  const parts = response.body.split('\n\n');
  expect(parts.pop()).toBe('');
  return parts.map((part) => {
    expect(part).toMatch(/^data: [^\n]*$/);
    const data = part.slice('data: '.length);
    return data === '[DONE]' ? data : JSON.parse(data);
  });
}

describe('/v1/completions', () => {
  it('answers in the shape of OpenAI', async () => {
    const { status, json } = await complete({
      max_tokens: 5,
      model: 'fake-model',
      user: 'me',
      unknown_field: 1,
    });
    expect(status).toBe(200);
    expect(json).toEqual({
      id: expect.stringMatching(/^cmpl-/),
      object: 'text_completion',
      created: expect.closeTo(Date.now() / 1000, -1),
      model: 'fake-model',
      choices: [
        { index: 0, text: expect.any(String), logprobs: null, finish_reason: 'length', stop_reason: null },
      ],
      usage: {
        prompt_tokens: 6,
        completion_tokens: 5,
        total_tokens: 11,
        prompt_tokens_details: { cached_tokens: 0 },
      },
    });
  });

  it('generates 16 tokens when nothing is said, and no more than the context holds', async () => {
    expect((await complete({})).json.usage.completion_tokens).toBe(16);
    await complete({ max_tokens: 1e15 });
    expect(client.requests.at(-1)!.stop.maxTokens).toBe(512);
  });

  it('takes text, token ids and batches of either, prompt by prompt', async () => {
    const ids = [256, 72, 101, 108, 108, 111];
    const text = await complete({});
    for (const prompt of [ids, [ids], ['Hello']]) {
      expect((await complete({ prompt })).json.choices[0].text).toBe(text.json.choices[0].text);
    }
    const batch = await complete({ prompt: ['Hello', [72, 105]], n: 2, echo: true, max_tokens: 1 });
    expect(batch.json.choices.map((choice: any) => choice.index)).toEqual([0, 1, 2, 3]);
    expect(batch.json.choices.map((choice: any) => choice.text.slice(0, 2))).toEqual([
      'He',
      'He',
      'Hi',
      'Hi',
    ]);
    expect(batch.json.usage).toMatchObject({ prompt_tokens: 8, completion_tokens: 4, total_tokens: 12 });
  });

  it('hands every field to the engine', async () => {
    await complete({
      temperature: 0.5,
      top_p: 0.9,
      top_k: 7,
      min_p: 0.1,
      presence_penalty: 1,
      frequency_penalty: -1,
      repetition_penalty: 1.1,
      logit_bias: { '5': 2.5, '299': -100 },
      seed: 42,
      stop: ['\n', 'x'],
      stop_token_ids: [9],
      min_tokens: 2,
      max_tokens: 3,
      ignore_eos: true,
      logprobs: 3,
      n: 2,
    });
    const [first, second] = client.requests.slice(-2);
    expect(first.sampling).toEqual({
      temperature: 0.5,
      topP: 0.9,
      topK: 7,
      minP: 0.1,
      presencePenalty: 1,
      frequencyPenalty: -1,
      repetitionPenalty: 1.1,
      logitBias: [
        [5, 2.5],
        [299, -100],
      ],
      seed: 42,
      logprobs: 3,
    });
    expect(second.sampling.seed).toBe(43);
    expect(first.stop).toEqual({
      maxTokens: 3,
      minTokens: 2,
      ignoreEos: true,
      stopStrings: ['\n', 'x'],
      stopTokenIds: [9],
    });
  });

  it("uses OpenAI's defaults when fields are left out or null", async () => {
    await post('/v1/completions', { prompt: 'Hello', temperature: null, stop: null, top_k: -1, seed: null });
    expect(client.requests.at(-1)!.sampling).toMatchObject({
      temperature: 1,
      topP: 1,
      topK: 0,
      minP: 0,
      seed: undefined,
    });
  });

  it('gives logprobs whose offsets follow the text', async () => {
    const { json } = await complete({ logprobs: 2, max_tokens: 4 });
    const { logprobs } = json.choices[0];
    expect(logprobs.tokens).toHaveLength(4);
    expect(logprobs.text_offset).toEqual([0, 1, 2, 3]);
    expect(logprobs.token_logprobs).toEqual([-0.5, -0.5, -0.5, -0.5]);
    expect(logprobs.top_logprobs[0][logprobs.tokens[0]]).toBe(-0.5);
  });

  it('returns token ids when asked', async () => {
    const { json } = await complete({ return_token_ids: true, max_tokens: 3 });
    expect(json.choices[0].prompt_token_ids).toEqual([256, 72, 101, 108, 108, 111]);
    expect(json.choices[0].token_ids).toHaveLength(3);
  });

  it('names the stop string, and puts it back when asked', async () => {
    const whole = (await complete({ max_tokens: 100 })).json.choices[0].text as string;
    const cut = (await complete({ max_tokens: 100, stop: ' ' })).json.choices[0];
    expect(cut).toMatchObject({ text: whole.split(' ')[0], finish_reason: 'stop', stop_reason: ' ' });
    const kept = (await complete({ max_tokens: 100, stop: [' '], include_stop_str_in_output: true })).json
      .choices[0];
    expect(kept.text).toBe(`${whole.split(' ')[0]} `);
  });

  it('truncates a prompt from the left', async () => {
    await complete({ prompt: 'abcdef', truncate_prompt_tokens: 2 });
    expect(client.requests.at(-1)!.promptTokenIds).toEqual([101, 102]);
    await complete({ prompt: 'a'.repeat(2000), truncate_prompt_tokens: -1 });
    expect(client.requests.at(-1)!.promptTokenIds).toHaveLength(511);
  });

  it('streams the same text: chunks, finish reason, usage, end mark', async () => {
    const whole = (await complete({ max_tokens: 30, logprobs: 1 })).json;
    const chunks = await events('/v1/completions', {
      prompt: 'Hello',
      temperature: 0,
      max_tokens: 30,
      logprobs: 1,
      stream_options: { include_usage: true },
    });
    expect(chunks.pop()).toBe('[DONE]');
    const usage = chunks.pop();
    expect(usage).toMatchObject({ choices: [], usage: whole.usage });
    expect(chunks.every((chunk) => chunk.usage === null && chunk.object === 'text_completion')).toBe(true);
    const choices = chunks.map((chunk) => chunk.choices[0]);
    expect(choices.map((choice) => choice.text).join('')).toBe(whole.choices[0].text);
    expect(choices.flatMap((choice) => choice.logprobs?.text_offset ?? [])).toEqual(
      whole.choices[0].logprobs.text_offset,
    );
    expect(choices.map((choice) => choice.finish_reason).filter(Boolean)).toEqual(['length']);
    expect(choices.at(-1).finish_reason).toBe('length');
    expect(new Set(chunks.map((chunk) => chunk.id)).size).toBe(1);
  });

  it('streams an echo first, and usage in every chunk when asked', async () => {
    const chunks = await events('/v1/completions', {
      prompt: ['Hi', 'Ho'],
      temperature: 0,
      echo: true,
      max_tokens: 2,
      stream_options: { include_usage: true, continuous_usage_stats: true },
    });
    expect(chunks.slice(0, 2).map((chunk) => chunk.choices[0].text)).toEqual(['Hi', 'Ho']);
    const counts = chunks
      .filter((chunk) => chunk.choices?.[0]?.index === 1)
      .map((chunk) => chunk.usage.completion_tokens);
    expect(counts).toEqual([0, 1, 2, 2]);
  });
});

describe('/v1/chat/completions', () => {
  it('answers in the shape of OpenAI', async () => {
    const { status, json } = await chat({ max_completion_tokens: 5 });
    expect(status).toBe(200);
    expect(json).toMatchObject({ id: expect.stringMatching(/^chatcmpl-/), object: 'chat.completion' });
    expect(json.choices).toEqual([
      {
        index: 0,
        message: { role: 'assistant', content: expect.any(String), refusal: null },
        logprobs: null,
        finish_reason: 'length',
        stop_reason: null,
      },
    ]);
    expect(json.usage.completion_tokens).toBe(5);
  });

  it('talks until the end of sequence when no limit is given', async () => {
    const { json } = await chat({});
    expect(json.choices[0].finish_reason).toBe('stop');
  });

  it('streams: role first, then text, finish reason, usage, end mark', async () => {
    const whole = (await chat({ max_tokens: 20 })).json;
    const chunks = await events('/v1/chat/completions', {
      messages: [{ role: 'user', content: 'Hello' }],
      temperature: 0,
      max_tokens: 20,
      stream_options: { include_usage: true },
      return_token_ids: true,
    });
    expect(chunks.pop()).toBe('[DONE]');
    expect(chunks.pop()).toMatchObject({ choices: [], usage: whole.usage });
    expect(chunks[0].choices[0]).toEqual({
      index: 0,
      delta: { role: 'assistant', content: '' },
      logprobs: null,
      finish_reason: null,
    });
    expect(chunks[0].prompt_token_ids).toHaveLength(whole.usage.prompt_tokens);
    const texts = chunks.map((chunk) => chunk.choices[0].delta.content ?? '');
    expect(texts.join('')).toBe(whole.choices[0].message.content);
    expect(chunks.flatMap((chunk) => chunk.choices[0].token_ids ?? [])).toHaveLength(20);
    expect(chunks.at(-1).choices[0]).toMatchObject({ delta: {}, finish_reason: 'length' });
  });

  it('gives logprobs with bytes, and only finite ones', async () => {
    const { json } = await chat({ logprobs: true, top_logprobs: 20, max_tokens: 2 });
    const { content } = json.choices[0].logprobs;
    expect(content).toHaveLength(2);
    expect(content[0]).toMatchObject({
      token: expect.any(String),
      logprob: -0.5,
      bytes: [expect.any(Number)],
    });
    expect(content[0].top_logprobs).toHaveLength(20);
    expect(content[0].top_logprobs[19].logprob).toBe(-9999);
  });

  it('accepts text parts, empty assistant turns and the developer role', async () => {
    const messages = [
      { role: 'developer', content: 'Be brief.' },
      { role: 'assistant', content: null },
      {
        role: 'user',
        content: [
          { type: 'text', text: 'one' },
          { type: 'text', text: 'two' },
        ],
      },
    ];
    const { json } = await post('/tokenize', { messages });
    const prompt = await client.decode(json.tokens);
    expect(prompt).toBe('<|system|>Be brief.</s><|assistant|></s><|user|>one\ntwo</s><|assistant|>');
  });

  it('continues the last message', async () => {
    await chat({
      messages: [
        { role: 'user', content: 'Count.' },
        { role: 'assistant', content: 'One, two' },
      ],
      continue_final_message: true,
    });
    const prompt = await client.decode(client.requests.at(-1)!.promptTokenIds);
    expect(prompt).toBe('<|user|>Count.</s><|assistant|>One, two');
  });

  it('draws n choices with n seeds', async () => {
    const { json } = await chat({ n: 3, seed: 5, temperature: 1, max_tokens: 40 });
    const texts = json.choices.map((choice: any) => choice.message.content);
    expect(new Set(texts).size).toBe(3);
    const second = await chat({ seed: 6, temperature: 1, max_tokens: 40 });
    expect(second.json.choices[0].message.content).toBe(texts[1]);
  });

  it('is refused when the model has no template', async () => {
    const { app: bare } = await createApp({
      client: new FakeClient({ hasChatTemplate: false }),
      version: '0',
    });
    const response = await bare.inject({
      method: 'POST',
      url: '/v1/chat/completions',
      payload: { messages: [{ role: 'user', content: 'x' }] },
    });
    expect(response.statusCode).toBe(400);
    expect(response.json().error.message).toContain('/v1/completions');
    await bare.close();
  });
});
