/** What a front end holds: the one door to the engine. `client.ts` makes it; tests may hand in a fake of it. */
import type {
  ChatMessage,
  EngineInfo,
  EngineStats,
  FinishReason,
  GenerateRequest,
  RequestError,
  RequestEvent,
  RequestTimings,
  Usage,
} from '../protocol.ts';

/** A request that was refused, or that failed on its way. Front ends map `error.code` to a status or a message. */
export class GenerateError extends Error {
  override name = 'GenerateError';
  readonly error: RequestError;
  constructor(error: RequestError) {
    super(error.message);
    this.error = error;
  }
}

/** Events of one request as its iterator yields them: tokens, then one end. Errors are thrown as GenerateError. */
export type GenerationEvent = Exclude<RequestEvent, { type: 'error' }>;

export interface EngineClient {
  readonly info: EngineInfo;
  /**
   * Submits at once (before the first next()); rejects with GenerateError when the engine refuses. Aborting the signal,
   * or leaving the loop early, frees the request's KV pages within two steps; the iterator then ends with an 'end'
   * event of finishReason 'abort' (signal), or silently (loop left). An id is free again when its request has ended.
   */
  generate(
    request: Omit<GenerateRequest, 'id'> & { id?: string },
    options?: { signal?: AbortSignal },
  ): Promise<AsyncIterable<GenerationEvent>>;
  /** Rejects with GenerateError code 'prompt_too_long', param 'prompt', before it encodes a text that can never fit. */
  encode(text: string, options?: { addSpecialTokens?: boolean }): Promise<number[]>;
  decode(tokenIds: number[], options?: { skipSpecialTokens?: boolean }): Promise<string>;
  /**
   * Rejects with GenerateError, param 'messages': code 'invalid' when the template refuses or runs over its limits,
   * 'prompt_too_long' when the chat can never fit.
   */
  encodeChat(
    messages: ChatMessage[],
    options?: { addGenerationPrompt?: boolean },
  ): Promise<{ prompt: string; tokenIds: number[] }>;
  /** Rejects when the engine's thread has ended, or does not answer for `timeoutMs` (default 5000). */
  stats(timeoutMs?: number): Promise<EngineStats>;
  /** Ends the threads; live requests fail with code 'not_ready', later calls too. */
  dispose(): Promise<void>;
}

export type { EngineInfo, EngineStats, FinishReason, RequestTimings, Usage };
