/** Wrong fields of /v1/completions and /v1/chat/completions: a 400 that names the field. */
import type { FastifyInstance } from 'fastify';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createApp } from '../../src/server/app.ts';
import { FakeClient } from './fakeClient.ts';

let app: FastifyInstance;

beforeAll(async () => {
  ({ app } = await createApp({ client: new FakeClient(), version: '1.2.3' }));
});
afterAll(() => app.close());

async function post(url: string, body: object): Promise<{ status: number; json: any }> {
  const response = await app.inject({ method: 'POST', url, payload: body });
  return { status: response.statusCode, json: response.json() };
}
const complete = (body: object) => post('/v1/completions', { prompt: 'Hello', temperature: 0, ...body });
const chat = (body: object) =>
  post('/v1/chat/completions', { messages: [{ role: 'user', content: 'Hello' }], temperature: 0, ...body });

describe('wrong fields', () => {
  const longText = 'a'.repeat(600);
  const wrongInBoth: [object, string][] = [
    [{ temperature: -1 }, 'temperature'],
    [{ temperature: 3 }, 'temperature'],
    [{ temperature: '1' }, 'temperature'],
    [{ top_p: 0 }, 'top_p'],
    [{ top_k: 1.5 }, 'top_k'],
    [{ min_p: 2 }, 'min_p'],
    [{ presence_penalty: 2.1 }, 'presence_penalty'],
    [{ repetition_penalty: 0 }, 'repetition_penalty'],
    [{ logit_bias: { '300': 1 } }, 'logit_bias'],
    [{ logit_bias: { '-1': 1 } }, 'logit_bias'],
    [{ logit_bias: { '01': 1 } }, 'logit_bias'],
    [{ logit_bias: { '1': 101 } }, 'logit_bias[1]'],
    [{ logit_bias: [1] }, 'logit_bias'],
    [{ seed: 2 ** 53 }, 'seed'],
    [{ n: 0 }, 'n'],
    [{ n: 17 }, 'n'],
    [{ max_tokens: 0 }, 'max_tokens'],
    [{ max_tokens: 4, min_tokens: 5 }, 'min_tokens'],
    [{ stop: '' }, 'stop'],
    [{ stop: [1] }, 'stop'],
    [{ stop: Array(17).fill('x') }, 'stop'],
    [{ stop: '\ud800' }, 'stop'],
    [{ stop_token_ids: [300] }, 'stop_token_ids'],
    [{ stop_token_ids: [-1] }, 'stop_token_ids[0]'],
    [{ stream: 'yes' }, 'stream'],
    [{ stream_options: { include_usage: true } }, 'stream_options'],
    [{ request_id: 'a b' }, 'request_id'],
    [{ best_of: 2 }, 'best_of'],
    [{ response_format: { type: 'json_object' } }, 'response_format'],
    [{ tools: [{ type: 'function' }] }, 'tools'],
    [{ priority: 1 }, 'priority'],
    [{ prompt_logprobs: 0 }, 'prompt_logprobs'],
    [{ user: 5 }, 'user'],
  ];
  const wrongCompletions: [object, string][] = [
    ...wrongInBoth,
    [{ prompt: undefined }, 'prompt'],
    [{ prompt: '' }, 'prompt'],
    [{ prompt: [] }, 'prompt'],
    [{ prompt: [[]] }, 'prompt'],
    [{ prompt: [''] }, 'prompt'],
    [{ prompt: 5 }, 'prompt'],
    [{ prompt: { text: 'x' } }, 'prompt'],
    [{ prompt: [1, 'x'] }, 'prompt'],
    [{ prompt: ['x', 1] }, 'prompt'],
    [{ prompt: [1, null] }, 'prompt'],
    [{ prompt: [1.5] }, 'prompt'],
    [{ prompt: [300] }, 'prompt'],
    [{ prompt: [-1] }, 'prompt'],
    [{ prompt: 'x\udc00' }, 'prompt'],
    [{ prompt: Array(300).fill('x') }, 'prompt'],
    [{ prompt: longText }, 'prompt'],
    [{ prompt: 'x'.repeat(512 * 256 + 1) }, 'prompt'],
    [{ logprobs: 21 }, 'logprobs'],
    [{ logprobs: true }, 'logprobs'],
    [{ echo: true, logprobs: 1 }, 'echo'],
    [{ suffix: 'x' }, 'suffix'],
    [{ prompt: Array(100).fill('x'), n: 11 }, 'n'],
  ];
  const wrongChats: [object, string][] = [
    ...wrongInBoth,
    [{ messages: undefined }, 'messages'],
    [{ messages: [] }, 'messages'],
    [{ messages: 'x' }, 'messages'],
    [{ messages: [{ content: 'x' }] }, 'messages[0].role'],
    [{ messages: [{ role: 5, content: 'x' }] }, 'messages[0].role'],
    [{ messages: [{ role: 'user' }] }, 'messages[0].content'],
    [
      {
        messages: [
          { role: 'user', content: 'x' },
          { role: 'user', content: 5 },
        ],
      },
      'messages[1].content',
    ],
    [{ messages: [{ role: 'user', content: '\ud800' }] }, 'messages[0].content'],
    [{ messages: [{ role: 'user', content: [{ type: 'image_url' }] }] }, 'messages[0].content[0].type'],
    [{ messages: [{ role: 'user', content: [{ type: 'text' }] }] }, 'messages[0].content[0].text'],
    [{ messages: [{ role: 'user', content: [null] }] }, 'messages[0].content[0].type'],
    [{ messages: [{ role: 'stranger', content: 'x' }] }, 'messages'],
    [{ messages: [{ role: 'user', content: longText }] }, 'messages'],
    [{ logprobs: 1 }, 'logprobs'],
    [{ top_logprobs: 5 }, 'top_logprobs'],
    [{ logprobs: true, top_logprobs: 21 }, 'top_logprobs'],
    [{ continue_final_message: true, add_generation_prompt: true }, 'continue_final_message'],
    [{ max_completion_tokens: -1 }, 'max_completion_tokens'],
  ];

  async function expectNamed(answer: { status: number; json: any }, param: string): Promise<void> {
    expect(answer.status).toBe(400);
    expect(answer.json).toEqual({
      error: { message: expect.any(String), type: 'invalid_request_error', param, code: expect.any(String) },
    });
    expect(answer.json.error.message.length).toBeGreaterThan(10);
  }
  it.each(wrongCompletions)('/v1/completions %j -> 400 naming %s', async (body, param) => {
    await expectNamed(await complete(body), param);
  });
  it.each(wrongChats)('/v1/chat/completions %j -> 400 naming %s', async (body, param) => {
    await expectNamed(await chat(body), param);
  });

  it('says what was got and what is expected', async () => {
    const { json } = await complete({ temperature: 5 });
    expect(json.error.message).toBe("Invalid value for 'temperature': got 5, must be <= 2.");
  });

  it('answers 404 for another model', async () => {
    const { status, json } = await complete({ model: 'gpt-9' });
    expect(status).toBe(404);
    expect(json.error).toMatchObject({
      type: 'invalid_request_error',
      code: 'model_not_found',
      param: 'model',
    });
  });
});
