/** Models, tokenizer, health, readiness and metrics. */
import type { FastifyInstance } from 'fastify';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type App, createApp } from '../../src/server/app.ts';
import { FakeClient } from './fakeClient.ts';

let app: FastifyInstance;
let whole: App;
const client = new FakeClient({ name: 'org/fake-model' });

beforeAll(async () => {
  whole = await createApp({ client, version: '1.2.3' });
  app = whole.app;
});
afterAll(() => app.close());

const get = (url: string) => app.inject({ url });
const post = (url: string, payload: object) => app.inject({ method: 'POST', url, payload });

describe('models', () => {
  it('are listed, and found by name, also by one with a slash', async () => {
    const card = {
      id: 'org/fake-model',
      object: 'model',
      created: expect.any(Number),
      owned_by: 'nanoflow',
      root: 'org/fake-model',
      parent: null,
      max_model_len: 512,
    };
    expect((await get('/v1/models')).json()).toEqual({ object: 'list', data: [card] });
    expect((await get('/v1/models/org/fake-model')).json()).toEqual(card);
    expect((await get('/v1/models/org%2Ffake-model')).json()).toEqual(card);
    const missing = await get('/v1/models/other');
    expect(missing.statusCode).toBe(404);
    expect(missing.json().error.code).toBe('model_not_found');
  });

  it('say which version and device serve them', async () => {
    expect((await get('/version')).json()).toEqual({ version: '1.2.3' });
    expect((await get('/server_info')).json()).toMatchObject({
      device: { kind: 'cpu' },
      kv: { pageSize: 16 },
    });
    expect((await get('/load')).json()).toEqual({ server_load: 0 });
  });
});

describe('tokenizer', () => {
  it('tokenizes text and chats, and back', async () => {
    const text = (await post('/tokenize', { prompt: 'Hi', return_token_strs: true })).json();
    expect(text).toEqual({
      count: 3,
      max_model_len: 512,
      tokens: [256, 72, 105],
      token_strs: ['<s>', 'H', 'i'],
    });
    const bare = (await post('/tokenize', { prompt: 'Hi', add_special_tokens: false })).json();
    expect(bare).toMatchObject({ tokens: [72, 105], token_strs: null });
    const chat = (
      await post('/tokenize', { messages: [{ role: 'user', content: 'Hi' }], add_generation_prompt: false })
    ).json();
    expect((await post('/detokenize', { tokens: chat.tokens })).json()).toEqual({ prompt: '<|user|>Hi</s>' });
    expect((await post('/tokenize', { prompt: '' })).json().count).toBe(1);
    expect((await post('/detokenize', { tokens: [] })).json()).toEqual({ prompt: '' });
  });

  it.each([
    ['/tokenize', {}, 'prompt'],
    ['/tokenize', { prompt: 5 }, 'prompt'],
    ['/tokenize', { prompt: '\ud800' }, 'prompt'],
    ['/tokenize', { prompt: 'x'.repeat(5000), return_token_strs: true }, 'return_token_strs'],
    ['/detokenize', {}, 'tokens'],
    ['/detokenize', { tokens: 'x' }, 'tokens'],
    ['/detokenize', { tokens: [-1] }, 'tokens[0]'],
    ['/detokenize', { tokens: [1.5] }, 'tokens[0]'],
    ['/detokenize', { tokens: [300] }, 'tokens'],
  ])('POST %s %.50j -> 400 naming %s', async (url, body, param) => {
    const response = await post(url, body);
    expect(response.statusCode).toBe(400);
    expect(response.json().error.param).toBe(param);
  });
});

describe('health', () => {
  it('follows the heartbeat of the step loop', async () => {
    expect((await get('/health')).statusCode).toBe(200);
    client.heartbeatAge = 5.1;
    expect((await get('/health')).statusCode).toBe(503);
    expect((await get('/ready')).statusCode).toBe(503);
    client.heartbeatAge = 0;
    client.stopped = true;
    const dead = await get('/health');
    expect(dead.statusCode).toBe(503);
    expect(dead.json().error).toMatchObject({ type: 'service_unavailable_error', code: 'engine_dead' });
    client.stopped = false;
    client.state = 'lost';
    expect((await get('/health')).json().error.code).toBe('device_lost');
    client.state = 'loading';
    expect((await get('/health')).statusCode).toBe(200);
    expect((await get('/ready')).statusCode).toBe(503);
    client.state = 'ready';
    expect((await get('/ready')).statusCode).toBe(200);
  });
});

describe('metrics', () => {
  /** "name{labels} value" lines -> value of one. */
  async function metric(name: string, labels = ''): Promise<number> {
    const { body } = await get('/metrics');
    const line = body
      .split('\n')
      .find(
        (text) => text.startsWith(`${name}{`) && labels.split(',').every((label) => text.includes(label)),
      );
    expect(line, `${name}{${labels}}`).toBeDefined();
    return Number(line!.split(' ').at(-1));
  }

  it("carry vLLM's names, and add up with what was answered", async () => {
    const before = {
      prompt: await metric('vllm:prompt_tokens_total'),
      generated: await metric('vllm:generation_tokens_total'),
    };
    const bodies = [
      { prompt: 'Hello', max_tokens: 7 },
      { prompt: ['a', 'b'], n: 2, max_tokens: 3, ignore_eos: true },
      { prompt: 'Hello', max_tokens: 100, stop: ' ' },
    ];
    let prompt = 0;
    let generated = 0;
    for (const body of bodies) {
      const { usage } = (await post('/v1/completions', body)).json();
      prompt += usage.prompt_tokens * ('n' in body ? 2 : 1); // each choice computes its prompt
      generated += usage.completion_tokens;
    }
    expect(await metric('vllm:prompt_tokens_total')).toBe(before.prompt + prompt);
    expect(await metric('vllm:generation_tokens_total')).toBe(before.generated + generated);
    expect(await metric('vllm:request_success_total', 'finished_reason="length"')).toBe(5);
    expect(await metric('vllm:request_success_total', 'finished_reason="stop"')).toBe(1);
    expect(await metric('vllm:e2e_request_latency_seconds_count')).toBe(6);
    expect(await metric('vllm:time_to_first_token_seconds_count')).toBe(6);
    expect(await metric('vllm:inter_token_latency_seconds_count')).toBe(generated - 6);
    expect(await metric('vllm:request_generation_tokens_sum')).toBe(generated);
    expect(await metric('vllm:iteration_tokens_total_sum')).toBe(before.generated + generated);
    expect(await metric('vllm:num_requests_running', 'model_name="org/fake-model"')).toBe(0);
    expect(await metric('vllm:num_requests_waiting')).toBe(0);
    expect(await metric('vllm:kv_cache_usage_perc')).toBe(0);
    expect(await metric('vllm:num_preemptions_total')).toBe(0);
    expect(await metric('vllm:cache_config_info', 'block_size="16",num_gpu_blocks="100"')).toBe(1);
  });

  it('count each step once, whoever asked for the state', async () => {
    const before = await metric('vllm:iteration_tokens_total_count');
    await post('/v1/completions', { prompt: 'x', max_tokens: 5, ignore_eos: true });
    await get('/health');
    await get('/load');
    expect(await metric('vllm:iteration_tokens_total_count')).toBe(before + 5);
  });

  it('fail as a scrape when the engine does not answer', async () => {
    client.stopped = true;
    expect((await get('/metrics')).statusCode).toBeGreaterThanOrEqual(500);
    client.stopped = false;
  });
});

describe('drain', () => {
  it('refuses new requests with 503 and Connection: close; health and metrics go on', async () => {
    whole.drain.start();
    const refused = await post('/v1/completions', { prompt: 'x' });
    expect(refused.statusCode).toBe(503);
    expect(refused.headers).toMatchObject({ connection: 'close', 'retry-after': '5' });
    expect((await get('/ready')).statusCode).toBe(503);
    expect((await get('/health')).statusCode).toBe(200);
    expect((await get('/metrics')).statusCode).toBe(200);
  });
});
