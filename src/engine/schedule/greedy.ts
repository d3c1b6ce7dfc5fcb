/** Greedy requests of so many tokens, whatever they are: what measurements run. */
import type { GenerateRequest } from '../../protocol.ts';

export const GREEDY: GenerateRequest['sampling'] = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
  logitBias: [],
};

export function greedyRequest(id: string, promptTokenIds: number[], maxTokens: number): GenerateRequest {
  return {
    id,
    promptTokenIds,
    sampling: GREEDY,
    stop: { maxTokens, minTokens: 0, ignoreEos: true, stopStrings: [], stopTokenIds: [] },
  };
}
