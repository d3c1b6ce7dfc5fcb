/** Searched pipelines on the way from the cache to the engine: taken when they fit, refused with a reason when not. */
import { describe, expect, it } from 'vitest';
import { graphModelOf, operationGraph } from '../../src/engine/model/graph/build.ts';
import { parseModelConfig } from '../../src/engine/model/config.ts';
import { readJson } from '../../src/engine/model/modelFiles.ts';
import { openModelDirectory } from '../../src/engine/model/modelFilesNode.ts';
import { overlap } from '../../src/engine/pipeline/presets.ts';
import { TABLE_FORMAT, TABLE_VERSION, type PipelineTable } from '../../src/engine/search/table.ts';
import type { LoadOptions, LoadProgress } from '../../src/protocol.ts';
import { loadEngine } from '../../src/worker/loadEngine.ts';
import { nodePlatform } from '../../src/worker/node/platform.ts';
import { ask } from '../engine/fakeRunner.ts';

const MODEL = 'models/embedded';
const PROMPT = Array.from({ length: 48 }, (_, i) => 5 + ((i * 37) % 200));

async function table(): Promise<PipelineTable> {
  const files = await openModelDirectory(MODEL);
  const config = parseModelConfig(await readJson(files, 'config.json'));
  await files.close();
  const graph = operationGraph(graphModelOf(config), {
    ranks: 1,
    elementBytes: 4,
    merge: true,
    activation: true,
  });
  return {
    format: TABLE_FORMAT,
    version: TABLE_VERSION,
    key: 'test',
    device: 'cpu',
    model: MODEL,
    entries: [
      {
        mix: { decode: 0, context: 1, prefill: 48 },
        pipeline: overlap(graph, { tokens: 48, decodeTokens: 0 }, 2, { boundary: 20 }),
        plainMilliseconds: 2,
        milliseconds: 1,
      },
    ],
  };
}

/** Greedy tokens of one request, and what was said while loading. */
async function generate(
  pipelines: LoadOptions['pipelines'],
  text: string | undefined,
): Promise<{ tokens: number[]; said: string[] }> {
  const said: string[] = [];
  const options = { model: { kind: 'directory', path: MODEL }, device: 'cpu', pipelines } as LoadOptions;
  const { engine, close } = await loadEngine(options, {
    platform: { ...nodePlatform, readPipelines: async () => text },
    onProgress: ({ detail }: LoadProgress) => void said.push(detail ?? ''),
    signal: new AbortController().signal,
  });
  const tokens: number[] = [];
  engine.submit(ask('a', PROMPT, { maxTokens: 6, ignoreEos: true }));
  while (engine.hasWork) {
    for (const event of await engine.step()) {
      if (event.type === 'error') throw new Error(event.error.message);
      if (event.type === 'tokens') tokens.push(...event.tokenIds);
    }
  }
  await close();
  return { tokens, said: said.filter((line) => line.includes('pipelines')) };
}

describe('pipelines of a search', () => {
  it('serve what they were searched for, with the same text', async () => {
    const text = JSON.stringify(await table());
    const plain = await generate('none', text);
    expect(plain.said).toEqual([]);
    const piped = await generate('auto', text);
    expect(piped.said).toEqual(['pipelines: 1 of 1 searched mixes, for cpu']);
    expect(piped.tokens).toEqual(plain.tokens);
    expect(piped.tokens).toHaveLength(6);
  }, 60_000);

  it('of no use: a kept table is remarked on, a named file is an error', async () => {
    const { said } = await generate('auto', '{"format":"x"}');
    expect(said).toEqual([expect.stringMatching(/^pipelines not used: .*expected "nanoflow-pipelines"/)]);
    await expect(generate({ file: 'mine.json' }, '{"format":"x"}')).rejects.toThrow(
      /mine\.json: got format "x"/,
    );
  }, 60_000);

  it('none kept: nothing is said', async () => {
    expect((await generate('auto', undefined)).said).toEqual([]);
  }, 60_000);
});
