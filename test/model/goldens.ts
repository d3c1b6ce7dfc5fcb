/** The committed parity goldens (made by scripts/goldens/make_goldens.py): where they lie and what they hold. */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface GoldenPrompt {
  readonly prompt: readonly number[]; // token ids; 1, 7, 33, 130 or 300 of them
  readonly logits: Float32Array; // [vocabSize] after the last prompt token
  readonly tokens: readonly number[]; // 24 greedy tokens; ends of text are not obeyed
  readonly margins: readonly number[]; // best logit minus second best at each greedy step
}

export interface GoldenCase {
  readonly name: string;
  /** A Hugging Face model directory: config.json and safetensors. */
  readonly directory: string;
  readonly checkpointDtype: 'float32' | 'float16' | 'bfloat16';
  readonly prompts: readonly GoldenPrompt[];
  /** RoPE's inverse frequencies in transformers, by sequence length. */
  readonly inverseFrequencies: ReadonlyMap<number, Float32Array>;
}

const BESIDE = join(fileURLToPath(import.meta.url), '..', 'goldens');
/** In a bundle (scripts/bundle-tests.js): from the repository's root. */
const ROOT = existsSync(BESIDE) ? BESIDE : join('test', 'model', 'goldens');

interface GoldenFile {
  name: string;
  checkpoint_dtype: GoldenCase['checkpointDtype'];
  inverse_frequencies: Record<string, string>;
  prompts: { prompt: number[]; logits: string; tokens: number[]; margins: number[] }[];
}

/** All cases, by name. */
export function goldenCases(): GoldenCase[] {
  return readdirSync(ROOT).toSorted().map(goldenCase);
}

export function goldenCase(name: string): GoldenCase {
  const directory = join(ROOT, name);
  const file = JSON.parse(readFileSync(join(directory, 'golden.json'), 'utf8')) as GoldenFile;
  return {
    name: file.name,
    directory,
    checkpointDtype: file.checkpoint_dtype,
    prompts: file.prompts.map((prompt) => ({ ...prompt, logits: floats(prompt.logits) })),
    inverseFrequencies: new Map(
      Object.entries(file.inverse_frequencies).map(([length, values]) => [Number(length), floats(values)]),
    ),
  };
}

function floats(base64: string): Float32Array {
  const bytes = Uint8Array.from(Buffer.from(base64, 'base64'));
  return new Float32Array(bytes.buffer);
}
