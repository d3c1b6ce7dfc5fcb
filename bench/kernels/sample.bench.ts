/** Sampling: what a step pays for greedy rows, draws, thresholds and log-probabilities. */
import type { Device } from '../../src/engine/device.ts';
import { tensor } from '../../src/engine/device.ts';
import { sampleScratchBytes } from '../../src/engine/kernels/sample.ts';
import {
  COUNT,
  LOGPROBS_OFF,
  SAMPLE,
  SAMPLED_WORDS,
  SAMPLE_WORDS,
  stepMetaLayout,
} from '../../src/engine/plan/stepMeta.ts';
import type { CaseGroup } from './index.ts';

export interface SampleSettings {
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  topLogprobs: number;
}

const DRAW: SampleSettings = { temperature: 0.8, topK: 0, topP: 1, minP: 0, topLogprobs: LOGPROBS_OFF };
const SETTINGS: Record<string, SampleSettings> = {
  greedy: { ...DRAW, temperature: 0 },
  'greedy, 5 logprobs': { ...DRAW, temperature: 0, topLogprobs: 5 },
  draw: DRAW,
  'top-k 40': { ...DRAW, topK: 40 },
  'top-p 0.9': { ...DRAW, topP: 0.9 },
  'top-k 40, top-p 0.9': { ...DRAW, topK: 40, topP: 0.9 },
};

/** The embedded model's vocabulary on CPU cores, that of Llama 3 on GPUs. */
export function* groups(device: Device): Generator<CaseGroup> {
  const { software } = device.target;
  const vocabulary = software ? 4096 : 128256;
  for (const rows of software ? [1, 16] : [1, 64]) {
    for (const [name, settings] of Object.entries(SETTINGS)) {
      yield sampleGroup(device, name, rows, vocabulary, settings);
    }
  }
}

/** One case and the buffers behind it. The logits are normal with a few likely tokens, as a trained model's are. */
export function sampleGroup(
  device: Device,
  name: string,
  rows: number,
  vocabulary: number,
  settings: SampleSettings,
): CaseGroup {
  const layout = stepMetaLayout({
    tokens: rows,
    requests: rows,
    pages: 1,
    items16: 1,
    items128: 1,
    mergeRows: 1,
    attentionWorkgroups: 1,
    adjustments: 1,
  });
  const words = new Uint32Array(layout.words);
  const floats = new Float32Array(words.buffer);
  words[COUNT.logitRows] = rows;
  for (let row = 0; row < rows; row++) {
    const at = layout.sampling + row * SAMPLE_WORDS;
    floats[at + SAMPLE.temperature] = settings.temperature;
    words[at + SAMPLE.topK] = settings.topK;
    floats[at + SAMPLE.topP] = settings.topP;
    floats[at + SAMPLE.minP] = settings.minP;
    floats[at + SAMPLE.repetitionPenalty] = 1;
    words[at + SAMPLE.seedLow] = row;
    words[at + SAMPLE.topLogprobs] = settings.topLogprobs;
  }
  const logits = new Float32Array(rows * vocabulary);
  let state = 1;
  for (let i = 0; i < logits.length; i++) {
    let sum = -6; // twelve uniform numbers less their mean: nearly normal
    for (let j = 0; j < 12; j++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      sum += state / 2 ** 32;
    }
    logits[i] = 2 * sum + (i % 401 === 7 ? 8 : 0);
  }
  const scratchWords = sampleScratchBytes(rows, vocabulary, 1) / 4;
  const [meta, values, sampled, scratch] = [
    device.createBuffer('meta', words.byteLength),
    device.createBuffer('logits', logits.byteLength),
    device.createBuffer('sampled', rows * SAMPLED_WORDS * 4),
    device.createBuffer('scratch', scratchWords * 4),
  ];
  device.write(meta, 0, words);
  device.write(values, 0, logits);
  return {
    cases: [
      {
        name: `sample [${rows}, ${vocabulary}] ${name}`,
        calls: [
          {
            kernel: 'sample',
            label: 'bench',
            meta: tensor(meta, 'u32', [layout.words]),
            layout,
            logits: tensor(values, 'f32', [rows, vocabulary]),
            sampled: tensor(sampled, 'u32', [rows, SAMPLED_WORDS]),
            scratch: tensor(scratch, 'u32', [scratchWords]),
          },
        ],
        bytes: logits.byteLength,
      },
    ],
    free: () => [meta, values, sampled, scratch].forEach((buffer) => device.destroyBuffer(buffer)),
  };
}
