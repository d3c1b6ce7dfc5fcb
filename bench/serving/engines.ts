/** An engine without text: for benches, whose models have no tokenizer. */
import { Engine, type EngineOptions } from '../../src/engine/engine.ts';
import type { BatchRunner } from '../../src/engine/model/runner.ts';

const plainText = {
  openDetokenizer: () => ({ push: () => '', flush: () => '' }),
  tokenText: () => ({ text: '', bytes: [] }),
};

export function newEngine(runner: BatchRunner, options: Partial<EngineOptions> = {}): Engine {
  return new Engine(runner, plainText, {
    endTokens: [],
    maxQueuedRequests: 10_000,
    maxQueuedTokens: 2 ** 30,
    ...options,
  });
}
