/** Bad requests stop here: every field is checked again at the engine's border, whoever sent it. */
import type { GenerateRequest, RequestError } from '../../protocol.ts';
import { MAX_TOP_LOGPROBS } from '../plan/stepMeta.ts';
import { MAX_END_TOKENS } from './request.ts';

export interface RequestLimits {
  vocabSize: number;
  maxModelLen: number; // prompt + output
  maxAdjustments: number;
}

/** Why a request cannot run, or undefined. */
export function checkRequest(ask: GenerateRequest, limits: RequestLimits): RequestError | undefined {
  const { sampling, stop, promptTokenIds } = ask;
  const isToken = (id: number): boolean => Number.isInteger(id) && id >= 0 && id < limits.vocabSize;
  const tokenRange = `a token id from 0 to ${limits.vocabSize - 1}`;
  if (promptTokenIds.length === 0) return invalid('prompt', 'the prompt has no tokens; give at least one');
  if (promptTokenIds.length >= limits.maxModelLen) {
    return {
      code: 'prompt_too_long',
      param: 'prompt',
      message: `the prompt has ${promptTokenIds.length} tokens; at most ${limits.maxModelLen - 1} fit, with room for one of output`,
    };
  }
  const bad = promptTokenIds.find((id) => !isToken(id));
  if (bad !== undefined) return invalid('prompt', `${bad} is not ${tokenRange}`);

  const ranges: [param: string, value: number, low: number, high: number, whole?: boolean][] = [
    ['temperature', sampling.temperature, 0, 100],
    ['top_k', sampling.topK, 0, 2 ** 31 - 1, true],
    ['top_p', sampling.topP, 0, 1],
    ['min_p', sampling.minP, 0, 1],
    ['presence_penalty', sampling.presencePenalty, -2, 2],
    ['frequency_penalty', sampling.frequencyPenalty, -2, 2],
    ['repetition_penalty', sampling.repetitionPenalty, 1e-6, 1e6],
    ['logprobs', sampling.logprobs ?? 0, 0, MAX_TOP_LOGPROBS, true],
    ['seed', sampling.seed ?? 0, -Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER, true],
    ['max_tokens', stop.maxTokens, 1, Number.MAX_SAFE_INTEGER, true],
    ['min_tokens', stop.minTokens, 0, Number.MAX_SAFE_INTEGER, true],
  ];
  for (const [param, value, low, high, whole] of ranges) {
    // Written so that NaN fails too.
    if (!(value >= low && value <= high) || (whole && !Number.isInteger(value))) {
      return invalid(
        param,
        `${value} is out of range; expected ${whole ? 'a whole number' : 'a number'} from ${low} to ${high}`,
      );
    }
  }
  if (sampling.topP === 0) return invalid('top_p', '0 leaves no token; expected more than 0, up to 1');
  for (const [token, bias] of sampling.logitBias) {
    if (!isToken(token)) return invalid('logit_bias', `${token} is not ${tokenRange}`);
    if (!(bias >= -100 && bias <= 100))
      return invalid('logit_bias', `${bias} is not a number from -100 to 100`);
  }
  const badStop = stop.stopTokenIds.find((id) => !isToken(id));
  if (badStop !== undefined) return invalid('stop_token_ids', `${badStop} is not ${tokenRange}`);
  if (stop.stopStrings.some((text) => text.length === 0)) return invalid('stop', 'a stop string is empty');

  const most = limits.maxModelLen + sampling.logitBias.length + stop.stopTokenIds.length + MAX_END_TOKENS;
  if (most > limits.maxAdjustments) {
    return invalid(
      'logit_bias',
      `${sampling.logitBias.length} biases and stop tokens are more than this engine has room for`,
    );
  }
  return undefined;
}

function invalid(param: string, message: string): RequestError {
  return { code: 'invalid', param, message };
}
