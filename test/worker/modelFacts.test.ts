import { describe, expect, it } from 'vitest';
import type { ModelConfig } from '../../src/engine/model/config.ts';
import type { ModelFiles } from '../../src/engine/model/modelFiles.ts';
import { generationEndTokens, modelName } from '../../src/worker/modelFacts.ts';

describe('modelName', () => {
  it.each([
    [{ kind: 'directory', path: '/models/Llama-3.2-1B/' }, 'Llama-3.2-1B'],
    [{ kind: 'directory', path: 'C:\\models\\tiny' }, 'tiny'],
    [{ kind: 'directory', path: '.' }, 'model'],
    [{ kind: 'directory', path: '/' }, 'model'],
    [{ kind: 'url', url: 'https://example.org/models/tiny%20llama/?v=1' }, 'tiny llama'],
    [{ kind: 'url', url: '/models/100%/' }, '100%'],
  ] as const)('%j is %s', (source, name) => {
    expect(modelName(source)).toBe(name);
  });
});

describe('generationEndTokens', () => {
  const files = (generation?: unknown): ModelFiles => {
    const bytes = new TextEncoder().encode(JSON.stringify(generation ?? null));
    return {
      location: 'here',
      has: async () => generation !== undefined,
      open: async (name) => ({ name, size: bytes.length, read: async () => bytes }),
      close: async () => {},
    };
  };
  const config = { eosTokenIds: [2], vocabSize: 100 } as unknown as ModelConfig;

  it.each([
    [undefined, [2]],
    [{}, [2]],
    [{ eos_token_id: null }, [2]],
    [{ eos_token_id: 7 }, [2, 7]],
    [{ eos_token_id: [7, 2, 8] }, [2, 7, 8]],
    [{ eos_token_id: [-1, 100, 1.5, 99] }, [2, 99]],
  ])('of %j are %j', async (generation, ids) => {
    expect(await generationEndTokens(files(generation), config)).toEqual(ids);
  });

  it('refuses more than a step has room for', async () => {
    const many = { eos_token_id: Array.from({ length: 50 }, (_, i) => i) };
    await expect(generationEndTokens(files(many), config)).rejects.toThrow(/50 end-of-sequence tokens/);
  });
});
