/**
 * Sampling on the device under test against the twin: many rows with mixed parameters in one call, odd vocabularies, every
 * budget and both workgroup sizes. A draw whose outcome hangs on the last bits of a float (two best scores within 1e-4,
 * a threshold within 1e-5) is not compared; such draws are counted and must be few.
 */
import { afterAll, describe, expect, it } from 'vitest';
import { tensor, type Device } from '../../src/engine/device.ts';
import { createCpuDevice } from '../../src/engine/device/cpu/cpuDevice.ts';
import type { SampleCall } from '../../src/engine/kernels/calls.ts';
import { sample, sampleScratchBytes } from '../../src/engine/kernels/sample.ts';
import {
  allowedTokens,
  drawToken,
  scoreTokens,
  type SampleRow,
} from '../../src/engine/kernels/sample_twin.ts';
import {
  ADJUST,
  ADJUST_WORDS,
  COUNT,
  LOGPROBS_OFF,
  SAMPLE,
  SAMPLED,
  SAMPLED_WORDS,
  SAMPLE_WORDS,
  stepMetaLayout,
} from '../../src/engine/plan/stepMeta.ts';
import { randomInt, seededRandom, type Random } from './harness.ts';
import { ON_CUDA, openTestDevice } from './testDevice.ts';

interface Entry {
  token: number;
  outputCount: number;
  inPrompt: number;
  bias: number;
}

interface Row extends SampleRow {
  logits: Float32Array;
  presence: number;
  frequency: number;
  repetition: number;
  topLogprobs: number;
  entries: Entry[];
}

const PLAIN = {
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  presence: 0,
  frequency: 0,
  repetition: 1,
  seedLow: 1,
  seedHigh: 2,
  counter: 0,
  topLogprobs: LOGPROBS_OFF,
  entries: [] as Entry[],
};

const POISON = 0x7fc0dead; // a NaN

let cpu: Promise<Device> | undefined;
const opened = new Map<boolean, Promise<Device>>();

/** @param software false: the variant for GPUs, whatever the adapter is */
function testDevice(software = true): Promise<Device> {
  let device = opened.get(software);
  if (!device) {
    device = openTestDevice({
      sample: { ...sample, launches: (call, target) => sample.launches(call, { ...target, software }) },
    });
    opened.set(software, device);
  }
  return device;
}

function cpuDevice(): Promise<Device> {
  cpu ??= createCpuDevice({ registry: { sample } });
  return cpu;
}

afterAll(async () => {
  for (const device of [...opened.values(), cpu]) (await device)?.destroy();
});

interface Outcome {
  sampled: Uint32Array; // with one row more than the call has, which must keep its poison
  logits: Float32Array; // the same
}

async function runRows(device: Device, rows: readonly Row[], workgroups?: number): Promise<Outcome> {
  const vocab = rows[0].logits.length;
  const capacity = rows.length + 1;
  const entryCount = rows.reduce((count, row) => count + row.entries.length, 0);
  const layout = stepMetaLayout({
    tokens: 4,
    requests: capacity,
    pages: 4,
    items16: 4,
    items128: 4,
    mergeRows: 4,
    attentionWorkgroups: 4,
    adjustments: entryCount + 1,
  });
  const meta = new Uint32Array(layout.words);
  const metaFloats = new Float32Array(meta.buffer);
  meta[COUNT.logitRows] = rows.length;
  let entry = 0;
  rows.forEach((row, index) => {
    const at = layout.sampling + index * SAMPLE_WORDS;
    metaFloats[at + SAMPLE.temperature] = row.temperature;
    meta[at + SAMPLE.topK] = row.topK;
    metaFloats[at + SAMPLE.topP] = row.topP;
    metaFloats[at + SAMPLE.minP] = row.minP;
    metaFloats[at + SAMPLE.presencePenalty] = row.presence;
    metaFloats[at + SAMPLE.frequencyPenalty] = row.frequency;
    metaFloats[at + SAMPLE.repetitionPenalty] = row.repetition;
    meta[at + SAMPLE.seedLow] = row.seedLow;
    meta[at + SAMPLE.seedHigh] = row.seedHigh;
    meta[at + SAMPLE.counter] = row.counter;
    meta[at + SAMPLE.topLogprobs] = row.topLogprobs;
    meta[at + SAMPLE.adjustStart] = entry;
    for (const { token, outputCount, inPrompt, bias } of row.entries) {
      const word = layout.adjust + entry * ADJUST_WORDS;
      meta[word + ADJUST.token] = token;
      meta[word + ADJUST.outputCount] = outputCount;
      meta[word + ADJUST.inPrompt] = inPrompt;
      metaFloats[word + ADJUST.bias] = bias;
      entry++;
    }
    meta[at + SAMPLE.adjustEnd] = entry;
  });
  const poisoned = (words: number): Uint32Array => new Uint32Array(words).fill(POISON);
  const logits = new Float32Array(poisoned(capacity * vocab).buffer);
  rows.forEach((row, index) => logits.set(row.logits, index * vocab));
  const scratchWords = sampleScratchBytes(capacity, vocab, entryCount + 1) / 4;
  const buffers = Object.entries({
    meta,
    logits,
    sampled: poisoned(capacity * SAMPLED_WORDS),
    scratch: poisoned(scratchWords + 16),
  }).map(([name, data]) => {
    const buffer = device.createBuffer(name, data.byteLength);
    device.write(buffer, 0, data);
    return buffer;
  });
  const call: SampleCall = {
    kernel: 'sample',
    label: 'test',
    meta: tensor(buffers[0], 'u32', [layout.words]),
    layout,
    workgroups,
    logits: tensor(buffers[1], 'f32', [capacity, vocab]),
    sampled: tensor(buffers[2], 'u32', [capacity, SAMPLED_WORDS]),
    scratch: tensor(buffers[3], 'u32', [scratchWords]),
  };
  const program = await device.compile('test', [call]);
  device.submit(program);
  const result = {
    logits: new Float32Array(await device.read(buffers[1], 0, logits.byteLength)),
    sampled: new Uint32Array(await device.read(buffers[2], 0, capacity * SAMPLED_WORDS * 4)),
  };
  const tail = new Uint32Array(await device.read(buffers[3], scratchWords * 4, 64));
  expect([...tail], 'scratch after its end').toEqual([...poisoned(16)]);
  program.destroy();
  for (const buffer of buffers) device.destroyBuffer(buffer);
  return result;
}

/** Whether the draw would come out the same with slightly different thresholds and scores. */
function isClear(row: Row, adjusted: Float32Array): boolean {
  const scores: number[] = [];
  if (!(row.temperature > 0))
    return adjusted.filter((value) => value >= Math.max(...adjusted) - 1e-4).length === 1;
  scoreTokens(adjusted, row, allowedTokens(adjusted, row), (_, score) => scores.push(score));
  scores.sort((a, b) => b - a);
  if (scores.length > 1 && scores[0] - scores[1] < 1e-4 * Math.max(1, Math.abs(scores[0]) / 100))
    return false;
  const token = drawToken(adjusted, row);
  return [-1e-5, 1e-5].every((shift) => {
    const topP = row.topP < 1 ? row.topP * (1 + shift) : 1;
    return drawToken(adjusted, { ...row, topP, minP: row.minP * (1 + shift) }) === token;
  });
}

const tally = { draws: 0, unclear: 0 };

function near(got: number, want: number): boolean {
  return Math.abs(got - want) <= 2e-4 + 2e-6 * Math.abs(want);
}

function compare(rows: readonly Row[], got: Outcome, want: Outcome, what: string): void {
  const vocab = rows[0].logits.length;
  const gotFloats = new Float32Array(got.sampled.buffer);
  const wantFloats = new Float32Array(want.sampled.buffer);
  rows.forEach((row, index) => {
    const at = index * SAMPLED_WORDS;
    const { logits: _, entries, ...parameters } = row;
    const where = `${what}, row ${index} ${JSON.stringify(parameters)}, ${entries.length} entries`;
    const adjusted = want.logits.slice(index * vocab, (index + 1) * vocab);
    adjusted.forEach((value, token) => {
      const own = got.logits[index * vocab + token];
      if (!Object.is(own, value) && !(Math.abs(own - value) <= 1e-5 * Math.max(1, Math.abs(value))))
        expect.fail(`${where}: logit ${token}: got ${own}, expected ${value}`);
    });
    const clean = adjusted.map((value) =>
      Number.isNaN(value) ? -1e30 : Math.min(Math.max(value, -1e30), 1e30),
    );
    tally.draws++;
    if (got.sampled[at + SAMPLED.token] !== want.sampled[at + SAMPLED.token]) {
      if (isClear(row, clean)) {
        const tokens = [got, want].map(({ sampled }) => sampled[at + SAMPLED.token]);
        expect.fail(
          `${where}: got token ${tokens[0]}, expected ${tokens[1]} (logits ${tokens.map((t) => clean[t])})`,
        );
      }
      tally.unclear++;
      return;
    }
    if (!near(gotFloats[at + SAMPLED.logprob], wantFloats[at + SAMPLED.logprob])) {
      const values = [gotFloats, wantFloats].map((floats) => floats[at + SAMPLED.logprob]);
      expect.fail(`${where}: got logprob ${values[0]}, expected ${values[1]}`);
    }
    expect(got.sampled[at + SAMPLED.rank], `${where}: rank`).toBe(want.sampled[at + SAMPLED.rank]);
    const count = want.sampled[at + SAMPLED.topCount];
    expect(got.sampled[at + SAMPLED.topCount], `${where}: topCount`).toBe(count);
    for (let i = 0; i < SAMPLED_WORDS - SAMPLED.topTokens; i++) {
      const word = at + SAMPLED.topTokens + i;
      const isLogprob = i >= SAMPLED.topLogprobs - SAMPLED.topTokens;
      const ok =
        isLogprob && i - 20 < count
          ? near(gotFloats[word], wantFloats[word])
          : got.sampled[word] === want.sampled[word];
      if (!ok)
        expect.fail(`${where}: top word ${i}: got ${got.sampled[word]}, expected ${want.sampled[word]}`);
    }
  });
  expect(got.sampled.subarray(rows.length * SAMPLED_WORDS), 'row behind the last').toEqual(
    want.sampled.subarray(rows.length * SAMPLED_WORDS),
  );
  const rest = (outcome: Outcome): Uint32Array =>
    new Uint32Array(outcome.logits.buffer).subarray(rows.length * vocab);
  expect(rest(got), 'logits behind the last row').toEqual(rest(want));
}

function normal(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

/** Logits of several characters: peaked, flat, full of ties, with forbidden tokens and NaN. */
function randomLogits(random: Random, vocab: number): Float32Array {
  const kind = randomInt(random, 0, 6);
  const logits = new Float32Array(vocab);
  for (let i = 0; i < vocab; i++) {
    let value = normal(random) * [3, 0.02, 8, 1, 3, 0, 2][kind];
    if (kind === 3) value = Math.round(value * 2) / 2;
    if (kind === 4 && random() < 0.3) value = random() < 0.5 ? -Infinity : NaN;
    if (kind === 6) value += 1000;
    logits[i] = value;
  }
  if (kind === 2) logits[randomInt(random, 0, vocab - 1)] += 12;
  return logits;
}

function randomRow(random: Random, vocab: number): Row {
  const chance = (share: number): boolean => random() < share;
  const entries: Entry[] = [];
  if (chance(0.5)) {
    const tokens = new Set(
      Array.from({ length: randomInt(random, 1, 40) }, () => randomInt(random, 0, vocab - 1)),
    );
    for (const token of tokens) {
      const bias = chance(0.3) ? (chance(0.3) ? -Infinity : normal(random) * 5) : 0;
      entries.push({ token, outputCount: randomInt(random, 0, 3), inPrompt: randomInt(random, 0, 1), bias });
    }
  }
  return {
    logits: randomLogits(random, vocab),
    temperature: chance(0.2) ? 0 : [0.01, 0.3, 0.8, 1, 1.7, 30][randomInt(random, 0, 5)],
    topK: chance(0.5) ? 0 : [1, 2, 5, 40, 300, 700, vocab, vocab + 1][randomInt(random, 0, 7)],
    topP: chance(0.5) ? 1 : [0, 1e-6, 0.1, 0.5, 0.9, 0.95, 0.999][randomInt(random, 0, 6)],
    minP: chance(0.7) ? 0 : [1e-6, 0.02, 0.3, 1][randomInt(random, 0, 3)],
    presence: chance(0.5) ? 0 : 0.7,
    frequency: chance(0.5) ? 0 : 0.3,
    repetition: chance(0.5) ? 1 : 1.3,
    seedLow: randomInt(random, 0, 2 ** 32 - 1),
    seedHigh: randomInt(random, 0, 2 ** 32 - 1),
    counter: randomInt(random, 0, 100000),
    topLogprobs: chance(0.4) ? LOGPROBS_OFF : randomInt(random, 0, 20),
    entries,
  };
}

const VARIANTS = [
  ['software', true],
  ['GPU', false],
] as const;

describe.each(ON_CUDA ? VARIANTS.slice(1) : VARIANTS)('sample, %s variant', (_, software) => {
  // Long rows on cuda only: it lists candidates where the scratch has room for them.
  const long = ON_CUDA ? [20_001, 60_000, 128_256] : [];
  it.each([1, 2, 3, 4, 5, 7, 8, 31, 64, 255, 1000, 2048, 2049, 4096, 4099, 9001, ...long])(
    'vocabulary of %i as the twin',
    async (vocab) => {
      const random = seededRandom(vocab);
      const rows = Array.from({ length: 24 }, () => randomRow(random, vocab));
      const want = await runRows(await cpuDevice(), rows);
      const budgets = vocab === 1000 || vocab === 9001 ? [undefined, 1, 2, 3, 7, 1000] : [undefined, 3];
      let first: Outcome | undefined;
      for (const workgroups of budgets) {
        const got = await runRows(await testDevice(software), rows, workgroups);
        compare(rows, got, want, `${vocab} tokens, ${workgroups ?? 'default'} workgroups`);
        first ??= got;
        expect(got.sampled, `${workgroups} workgroups: same words`).toEqual(first.sampled);
      }
    },
  );

  it('a row of a batch has the words that it has alone', async () => {
    const random = seededRandom(99);
    const rows = Array.from({ length: 16 }, () => randomRow(random, 4099));
    const device = await testDevice(software);
    const together = await runRows(device, rows);
    for (const index of [0, 5, 15]) {
      const alone = await runRows(device, [rows[index]]);
      const words = (outcome: Outcome, row: number): Uint32Array =>
        outcome.sampled.slice(row * SAMPLED_WORDS, (row + 1) * SAMPLED_WORDS);
      expect(words(alone, 0)).toEqual(words(together, index));
    }
  });

  it('one best token among many ties: the lowest ids stay', async () => {
    const vocab = 3001;
    const device = await testDevice(software);
    for (const topK of [3, 600, 1500]) {
      // Values of two levels: 1000 tokens of the higher, the rest lower; the border falls among equals.
      const logits = Float32Array.from({ length: vocab }, (_, token) => (token % 3 === 2 ? 0.5 : 0.25));
      const rows = Array.from({ length: 40 }, (_, counter) => ({
        ...PLAIN,
        logits,
        topK,
        counter,
        topP: topK === 600 ? 0.9999 : 1,
      }));
      const allowed = new Set(allowedTokens(logits, rows[0]));
      const { sampled } = await runRows(device, rows);
      const want = await runRows(await cpuDevice(), rows);
      rows.forEach((_, row) => expect(allowed).toContain(sampled[row * SAMPLED_WORDS]));
      compare(rows, await runRows(device, rows), want, `top ${topK} of ties`);
    }
  });

  it('nothing to choose from: token 0, and no hang', async () => {
    const device = await testDevice(software);
    for (const value of [NaN, -Infinity]) {
      const rows = [0, 1].flatMap((temperature) =>
        [0, 5].map((topK) => ({
          ...PLAIN,
          logits: new Float32Array(777).fill(value),
          temperature,
          topK,
          topP: topK ? 0.5 : 1,
          topLogprobs: 2,
        })),
      );
      const { sampled } = await runRows(device, rows);
      const floats = new Float32Array(sampled.buffer);
      rows.forEach((_, row) => {
        expect(sampled[row * SAMPLED_WORDS + SAMPLED.token]).toBe(0);
        expect(floats[row * SAMPLED_WORDS + SAMPLED.logprob]).toBeLessThan(-1e29);
      });
    }
  });
});

it('few draws were too close to compare', () => {
  console.log(`sample: ${tally.unclear} of ${tally.draws} draws differed and were too close to compare`);
  expect(tally.unclear).toBeLessThan(0.01 * tally.draws);
});
