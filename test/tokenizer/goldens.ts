/** The committed tokenizer goldens (made by scripts/goldens/make_tokenizer_goldens.py). */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Tokenizer } from '../../src/engine/tokenizer/tokenizer.ts';

const ROOT = join(fileURLToPath(import.meta.url), '..', 'goldens');

export const TOKENIZERS = ['byte-level', 'sentencepiece', 'metaspace'] as const;

export interface TokenizerGolden {
  vocabSize: number;
  cases: { text: string; ids: number[]; withSpecial: number[]; decoded: string; decodedAll: string }[];
  randomIds: { ids: number[]; decoded: string }[];
}

export interface ChatGolden {
  specialTokens: Record<string, string>;
  templates: Record<string, string>;
  cases: {
    template: string;
    name: string;
    messages: { role: string; content: string }[];
    addGenerationPrompt: boolean;
    tools: unknown[] | null;
    text?: string;
    error?: string;
  }[];
}

const json = (...path: string[]): unknown => JSON.parse(readFileSync(join(ROOT, ...path), 'utf8'));

export const tokenizerJson = (name: string): unknown => json(name, 'tokenizer.json');
export const tokenizerDirectory = (name: string): string => join(ROOT, name);
export const testTokenizer = (name: string): Tokenizer =>
  new Tokenizer(tokenizerJson(name), json(name, 'tokenizer_config.json'));
export const tokenizerGolden = (name: string): TokenizerGolden =>
  json(name, 'golden.json') as TokenizerGolden;
export const chatGolden = (): ChatGolden => json('chat.json') as ChatGolden;
