/** The official client, the server, the engine's thread, the device and the embedded model: answers. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type EmbeddedServer, postJson, startEmbedded } from './embeddedServer.ts';

let it_: EmbeddedServer;
let model: string;
const prompt = 'Once upon a time';
const messages = [{ role: 'user' as const, content: 'What is a batch?' }];

beforeAll(async () => {
  it_ = await startEmbedded();
  model = it_.client.info.model.name;
});
afterAll(() => it_?.stop());

const complete = (body: object) =>
  it_.openai.completions.create({ model, prompt, temperature: 0, ...body, stream: false });
const chat = (body: object) =>
  it_.openai.chat.completions.create({ model, messages, temperature: 0, ...body, stream: false });

async function streamed(body: object): Promise<{ text: string; pieces: string[]; reason: string | null }> {
  const stream = await it_.openai.completions.create({
    model,
    prompt,
    temperature: 0,
    ...body,
    stream: true,
  });
  const pieces: string[] = [];
  let reason: string | null = null;
  for await (const chunk of stream) {
    pieces.push(chunk.choices[0].text);
    reason = chunk.choices[0].finish_reason ?? reason;
  }
  return { text: pieces.join(''), pieces, reason };
}

describe('greedy answers', () => {
  it('are the same streamed, whole, by token ids and again', async () => {
    const whole = await complete({ max_tokens: 40 });
    const { text, finish_reason } = whole.choices[0];
    expect(whole.usage!.completion_tokens).toBeLessThanOrEqual(40);
    expect(await streamed({ max_tokens: 40 })).toMatchObject({ text, reason: finish_reason });
    const { tokens } = (await (await postJson(`${it_.url}/tokenize`, { prompt })).json()) as {
      tokens: number[];
    };
    expect((await complete({ max_tokens: 40, prompt: tokens })).choices[0].text).toBe(text);
    const batch = await complete({ max_tokens: 40, prompt: [prompt, prompt] });
    expect(batch.choices.map((choice) => choice.text)).toEqual([text, text]);
  });

  it('alone equal the ones among 15 others', async () => {
    const alone = await complete({ max_tokens: 48, ignore_eos: true, logprobs: 0 });
    const others = Array.from({ length: 15 }, (_, i) =>
      complete({
        prompt: `${'Tell me more. '.repeat(i)}Number ${i} says`,
        max_tokens: 16 + 4 * i,
        temperature: i % 2,
        seed: i,
      }),
    );
    const among = await complete({ max_tokens: 48, ignore_eos: true, logprobs: 0 });
    await Promise.all(others);
    expect(among.choices[0].text).toBe(alone.choices[0].text);
    expect(among.choices[0].logprobs!.tokens).toEqual(alone.choices[0].logprobs!.tokens);
  });

  it('of a chat go through the template', async () => {
    const answer = await chat({ max_tokens: 60 });
    const { tokens } = (await (await postJson(`${it_.url}/tokenize`, { messages })).json()) as {
      tokens: number[];
    };
    expect(answer.usage!.prompt_tokens).toBe(tokens.length);
    const direct = await complete({ prompt: tokens, max_tokens: 60 });
    expect(direct.choices[0].text).toBe(answer.choices[0].message.content);
  });
});

describe('stop strings', () => {
  it('are found across the borders of tokens, and never shown', async () => {
    const free = await complete({ max_tokens: 60, ignore_eos: true, logprobs: 0 });
    const { text } = free.choices[0];
    const ends = free.choices[0].logprobs!.text_offset!.slice(1);
    // Strings of 4 characters around the border behind each fifth token: the end of one token, the beginning of the next.
    const borders = ends.filter((end, i) => i % 5 === 2 && end >= 2 && end + 2 <= text.length);
    const stops = borders
      .map((end) => text.slice(end - 2, end + 2))
      .filter((stop) => !stop.includes('\ufffd'));
    expect(stops.length).toBeGreaterThan(3);
    for (const stop of stops) {
      const expected = text.slice(0, text.indexOf(stop));
      const whole = await complete({ max_tokens: 60, ignore_eos: true, stop });
      expect(whole.choices[0]).toMatchObject({ text: expected, finish_reason: 'stop', stop_reason: stop });
      const stream = await streamed({ max_tokens: 60, ignore_eos: true, stop: ['\u0001never', stop] });
      expect(stream).toMatchObject({ text: expected, reason: 'stop' });
    }
  });

  it('that never come leave the text as it is', async () => {
    const free = await complete({ max_tokens: 30, ignore_eos: true });
    const kept = await streamed({ max_tokens: 30, ignore_eos: true, stop: ['\u0001\u0002', 'zqxjzqxj'] });
    expect(kept.text).toBe(free.choices[0].text);
  });
});

describe('limits', () => {
  it('max_tokens, min_tokens and stop_token_ids count tokens', async () => {
    const ids = async (body: object) => {
      const answer = await complete({ return_token_ids: true, ...body });
      return (answer.choices[0] as unknown as { token_ids: number[] }).token_ids;
    };
    const free = await ids({ max_tokens: 20, ignore_eos: true });
    expect(free).toHaveLength(20);
    const at = free.findIndex((id, i) => i >= 3 && free.indexOf(id) === i);
    const cut = await ids({ max_tokens: 20, ignore_eos: true, stop_token_ids: [free[at]] });
    expect(cut.slice(0, at)).toEqual(free.slice(0, at));
    expect(cut.length).toBeLessThanOrEqual(at + 1);
    const forced = await ids({
      max_tokens: 20,
      ignore_eos: true,
      min_tokens: 20,
      stop_token_ids: [free[at]],
    });
    expect(forced).toHaveLength(20);
    expect(forced).not.toContain(free[at]);
  });

  it('logit_bias forbids and forces tokens', async () => {
    const ids = async (logit_bias: Record<string, number>) => {
      const answer = await complete({ return_token_ids: true, max_tokens: 5, ignore_eos: true, logit_bias });
      return (answer.choices[0] as unknown as { token_ids: number[] }).token_ids;
    };
    const [first] = await ids({});
    expect(await ids({ [first]: -100 })).not.toContain(first);
    expect(await ids({ '77': 100 })).toEqual([77, 77, 77, 77, 77]);
  });

  it('a prompt that can never fit is 400, one that just fits is answered', async () => {
    const { maxModelLen } = it_.client.info.model;
    const tooLong = await postJson(`${it_.url}/v1/completions`, { prompt: Array(maxModelLen).fill(65) });
    expect(tooLong.status).toBe(400);
    expect((await tooLong.json()).error.code).toBe('context_length_exceeded');
    const fits = await complete({
      prompt: Array(maxModelLen - 1).fill(65),
      max_tokens: 50,
      ignore_eos: true,
    });
    expect(fits.usage!.completion_tokens).toBe(1);
    expect(fits.choices[0].finish_reason).toBe('length');
  });
});

describe('sampling', () => {
  it('with a seed is reproducible, whatever else runs', async () => {
    const draw = async (seed: number) =>
      (await complete({ temperature: 1, seed, max_tokens: 30, ignore_eos: true })).choices[0].text;
    const alone = await draw(7);
    const [again, other] = await Promise.all([draw(7), draw(8), draw(9), draw(10)]);
    expect(again).toBe(alone);
    expect(other).not.toBe(alone);
  });

  it('n choices are the answers of n seeds', async () => {
    const body = { temperature: 0.9, max_tokens: 24, ignore_eos: true };
    const many = await complete({ ...body, n: 4, seed: 100 });
    expect(many.choices.map((choice) => choice.index)).toEqual([0, 1, 2, 3]);
    expect(new Set(many.choices.map((choice) => choice.text)).size).toBeGreaterThan(1);
    for (const i of [0, 3]) {
      const single = await complete({ ...body, seed: 100 + i });
      expect(many.choices[i].text).toBe(single.choices[0].text);
    }
    expect(many.usage!.completion_tokens).toBe(4 * 24);
  });

  it('without a seed differs from time to time', async () => {
    const draw = async () =>
      (await complete({ temperature: 2, max_tokens: 30, ignore_eos: true })).choices[0].text;
    expect(await draw()).not.toBe(await draw());
  });

  it('top_k 1 is greedy', async () => {
    const greedy = await complete({ max_tokens: 20, ignore_eos: true });
    const narrow = await complete({ max_tokens: 20, ignore_eos: true, temperature: 2, top_k: 1, seed: 1 });
    expect(narrow.choices[0].text).toBe(greedy.choices[0].text);
  });
});

describe('logprobs', () => {
  it('are probabilities: sorted, at most 1 together, the greedy token on top', async () => {
    const answer = await chat({ logprobs: true, top_logprobs: 20, max_tokens: 12 });
    const content = answer.choices[0].logprobs!.content!;
    expect(content.length).toBe(answer.usage!.completion_tokens);
    for (const token of content) {
      const values = token.top_logprobs.map((top) => top.logprob);
      expect(values).toHaveLength(20);
      expect(values).toEqual([...values].sort((a, b) => b - a));
      const sum = values.reduce((total, value) => total + Math.exp(value), 0);
      expect(sum).toBeLessThan(1.001);
      expect(sum).toBeGreaterThan(0);
      expect(token.logprob).toBeCloseTo(values[0], 3);
    }
  });

  it('bytes of all tokens make the text', async () => {
    const answer = await chat({ logprobs: true, max_tokens: 40 });
    const bytes = answer.choices[0].logprobs!.content!.flatMap((token) => token.bytes!);
    // The end of sequence is a token without a place in the text.
    expect(new TextDecoder().decode(new Uint8Array(bytes))).toContain(answer.choices[0].message.content!);
  });

  it('agree between the two APIs, streamed or not', async () => {
    const { tokens } = (await (await postJson(`${it_.url}/tokenize`, { messages })).json()) as {
      tokens: number[];
    };
    const asChat = await chat({ logprobs: true, max_tokens: 10 });
    const asText = await complete({ prompt: tokens, logprobs: 0, max_tokens: 10 });
    const expected = asChat.choices[0].logprobs!.content!.map((token) => token.logprob);
    const found = asText.choices[0].logprobs!.token_logprobs!;
    expect(found).toHaveLength(expected.length);
    found.forEach((value, i) => expect(value).toBeCloseTo(expected[i], 4));
    const stream = await it_.openai.chat.completions
      .stream({ model, messages, temperature: 0, logprobs: true, max_tokens: 10 })
      .finalChatCompletion();
    expect(stream.choices[0].logprobs!.content!.map((token) => token.token)).toEqual(
      asChat.choices[0].logprobs!.content!.map((token) => token.token),
    );
  });
});

describe('text', () => {
  it('never breaks a character between two chunks', async () => {
    // Random tokens of a byte-level vocabulary: many half characters.
    const body = { temperature: 2, seed: 3, max_tokens: 120, ignore_eos: true };
    const { text, pieces } = await streamed(body);
    expect(text).toBe((await complete(body)).choices[0].text);
    for (const piece of pieces) expect(piece).not.toMatch(/\p{Surrogate}/u);
  });

  it('goes to tokens and back', async () => {
    const original = 'Batches: 1, 2, 16.  Two spaces,\ttab, é, 中文, 🙂!\n';
    const body = { prompt: original, add_special_tokens: false };
    const { tokens } = (await (await postJson(`${it_.url}/tokenize`, body)).json()) as { tokens: number[] };
    const back = (await (await postJson(`${it_.url}/detokenize`, { tokens })).json()) as { prompt: string };
    expect(back.prompt).toBe(original);
  });
});
