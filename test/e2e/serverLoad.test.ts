/** The real engine under many clients: aborts, 64 streams, a full queue; nothing leaks and the metrics add up. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type EmbeddedServer, postJson, startEmbedded, until } from './embeddedServer.ts';

let it_: EmbeddedServer;
let url: string;
const prompt = 'Once upon a time';
const endless = { prompt, temperature: 0, max_tokens: 100_000, ignore_eos: true };

beforeAll(async () => {
  it_ = await startEmbedded({ maxRequests: 16, maxQueuedRequests: 100 });
  url = `${it_.url}/v1/completions`;
});
afterAll(() => it_?.stop());

const stats = () => it_.client.stats();
const isIdle = async () => {
  const { running, waiting, kvPagesUsed } = await stats();
  return running === 0 && waiting === 0 && kvPagesUsed === 0;
};

async function metric(name: string): Promise<number> {
  const text = await (await fetch(`${it_.url}/metrics`)).text();
  return Number(new RegExp(`^${name}\\{[^}]*\\} (\\S+)$`, 'm').exec(text)?.[1]);
}

describe('a client that hangs up', () => {
  it('frees its pages within two steps', async () => {
    // A second request keeps the steps going.
    const other = new AbortController();
    const background = postJson(url, { ...endless, stream: true }, other.signal);
    await until(async () => (await stats()).running === 1);
    const abort = new AbortController();
    const response = await postJson(url, { ...endless, stream: true }, abort.signal);
    await until(async () => (await stats()).running === 2);
    await response.body!.getReader().read();
    const { aborts } = it_;
    aborts.length = 0;
    abort.abort();
    await until(async () => aborts.length === 1);
    let state = await aborts[0];
    const { steps } = state;
    while (state.running > 1) state = await stats();
    expect(state.steps - steps).toBeLessThanOrEqual(2);
    other.abort();
    await background.then((answer) => answer.body?.cancel()).catch(() => {});
    await until(isIdle);
    expect(await metric('vllm:kv_cache_usage_perc')).toBe(0);
  });
});

describe('many clients', () => {
  it('64 streams at the same time all get what they get alone', async () => {
    const body = (i: number) => ({
      prompt: `${prompt}, number ${i},`,
      temperature: i % 2,
      seed: i,
      max_tokens: 24,
      ignore_eos: true,
    });
    const texts = await Promise.all(
      Array.from({ length: 64 }, async (_, i) => {
        const stream = await it_.openai.completions.create({
          model: it_.client.info.model.name,
          ...body(i),
          stream: true,
        });
        let text = '';
        for await (const chunk of stream) text += chunk.choices[0].text;
        return text;
      }),
    );
    for (const i of [0, 31, 63]) {
      const alone = (await (await postJson(url, body(i))).json()) as { choices: { text: string }[] };
      expect(texts[i]).toBe(alone.choices[0].text);
    }
    expect(await isIdle()).toBe(true);
  });

  it('more than the queue holds get 429 with Retry-After; the others run', async () => {
    const abort = new AbortController();
    const answers = Array.from({ length: 140 }, () =>
      postJson(url, { ...endless, stream: true }, abort.signal),
    );
    const statuses = (await Promise.all(answers)).map((answer) => {
      if (answer.status === 429) expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
      return answer.status;
    });
    const refused = statuses.filter((status) => status === 429).length;
    expect(refused).toBeGreaterThanOrEqual(140 - 16 - 100);
    expect(statuses.filter((status) => status === 200).length).toBe(140 - refused);
    expect(await metric('vllm:num_requests_running')).toBeGreaterThan(0);
    expect(await metric('vllm:admission_rejections_total')).toBe(refused);
    abort.abort();
    await until(isIdle);
  });

  it('a storm of dropped streams leaves nothing behind', async () => {
    for (let round = 0; round < 3; round++) {
      const aborts = Array.from({ length: 60 }, () => new AbortController());
      const open = aborts.map((abort, i) =>
        postJson(
          url,
          { ...endless, n: 1 + (i % 2), prompt: prompt.repeat(1 + (i % 7)), stream: i % 3 > 0 },
          abort.signal,
        )
          .then((answer) => answer.text())
          .catch(() => {}),
      );
      for (const [i, abort] of aborts.entries()) setTimeout(() => abort.abort(), (i * 37) % 700);
      await Promise.all(open);
    }
    await until(isIdle);
    const before = await (await postJson(url, { prompt, temperature: 0, max_tokens: 10 })).json();
    expect(before.choices[0].text.length).toBeGreaterThan(0);
  });

  it('the counters add up: accepted = ended, tokens = usage', async () => {
    await until(isIdle);
    const before = await stats();
    const answers = await Promise.all(
      [3, 5, 9].map(async (max_tokens) => (await postJson(url, { ...endless, max_tokens, n: 2 })).json()),
    );
    const after = await stats();
    const usage = answers.map((answer) => answer.usage);
    const generated = usage.reduce((sum, item) => sum + item.completion_tokens, 0);
    expect(generated).toBe(2 * (3 + 5 + 9));
    expect(after.generationTokens - before.generationTokens).toBe(generated);
    const ended = Object.values(after.requestsFinished).reduce((sum, count) => sum + count, 0);
    expect(after.requestsAccepted).toBe(ended);
    expect(await metric('vllm:generation_tokens_total')).toBe(after.generationTokens);
  });
});
