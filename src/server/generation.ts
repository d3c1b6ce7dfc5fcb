/**
 * Runs the choices of one HTTP request (prompts x n) as separate engine requests and delivers them as one answer, whole
 * or streamed. What the answer looks like is the business of an `AnswerFormat` (completions.ts, chat.ts).
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { GenerateRequest, RequestEvent } from '../protocol.ts';
import { type EngineClient, GenerateError, type GenerationEvent } from '../worker/types.ts';
import type { AbortCause, Drain } from './drain.ts';
import { HttpError, toHttpError } from './errors.ts';
import type { Metrics } from './metrics.ts';
import { EventStream } from './sse.ts';

export type TokensEvent = Extract<RequestEvent, { type: 'tokens' }>;
export type EndEvent = Extract<RequestEvent, { type: 'end' }>;

/** One engine request of the answer; its position in the list is the choice's `index`. */
export type Choice = Omit<GenerateRequest, 'id'>;

export interface ChoiceResult {
  text: string;
  tokens: TokensEvent[];
  end: EndEvent;
}

export interface UsageBody {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
}

/** Builds the objects of an answer. A streamed answer is opening, then tokens and one end per choice, then usage. */
export interface AnswerFormat {
  whole(results: ChoiceResult[], usage: UsageBody): object;
  opening(): object[];
  /** Undefined: nothing to show for these tokens yet. */
  tokens(index: number, event: TokensEvent): object | undefined;
  end(index: number, event: EndEvent): object;
  usage(usage: UsageBody): object;
}

export interface Answer {
  choices: Choice[];
  /** Prompt tokens, each prompt counted once. */
  promptTokens: number;
  format: AnswerFormat;
  stream: boolean;
  includeUsage: boolean;
  continuousUsage: boolean;
}

export interface GenerationContext {
  client: EngineClient;
  drain: Drain;
  metrics: Metrics;
  keepAliveMs?: number;
  /** Gets what went wrong inside, for the operator. */
  log: (line: string) => void;
}

/** Answers the request; a client that hangs up aborts all its choices at once. */
export async function answer(
  context: GenerationContext,
  request: FastifyRequest,
  reply: FastifyReply,
  plan: Answer,
): Promise<object | undefined> {
  const abort = new AbortController();
  const onClose = () => {
    if (!reply.raw.writableFinished) abort.abort('disconnected' satisfies AbortCause);
  };
  reply.raw.once('close', onClose);
  const { leave } = context.drain.enter(abort);
  try {
    // The client may be gone already: its prompt took time to encode.
    if (request.raw.socket.destroyed) abort.abort('disconnected' satisfies AbortCause);
    const streams = await submit(context, plan.choices, abort);
    if (plan.stream) {
      await stream(context, reply, plan, streams, abort);
      return undefined;
    }
    return await collect(context, plan, streams, abort);
  } finally {
    reply.raw.off('close', onClose);
    leave();
  }
}

/** Submits all choices in parallel; when the engine refuses one, the others are cancelled and its error is thrown. */
async function submit(
  { client, metrics }: GenerationContext,
  choices: Choice[],
  abort: AbortController,
): Promise<AsyncIterable<GenerationEvent>[]> {
  const settled = await Promise.allSettled(
    choices.map((choice) => client.generate(choice, { signal: abort.signal })),
  );
  const refused = settled.find((result) => result.status === 'rejected');
  if (refused) {
    abort.abort('sibling_failed' satisfies AbortCause);
    if (refused.reason instanceof GenerateError) metrics.rejected(refused.reason.error.code);
    for (const result of settled) if (result.status === 'fulfilled') void exhaust(result.value);
    throw refused.reason;
  }
  return settled.map((result) => (result as PromiseFulfilledResult<AsyncIterable<GenerationEvent>>).value);
}

/** Reads a cancelled request to its end, so that its client forgets it. */
async function exhaust(events: AsyncIterable<GenerationEvent>): Promise<void> {
  const iterator = events[Symbol.asyncIterator]();
  while (!(await iterator.next().catch(() => ({ done: true }))).done);
}

/** Hands each event to `onEvent` as it comes; the first failure cancels all choices and is thrown after all ended. */
async function consume(
  { metrics }: GenerationContext,
  streams: AsyncIterable<GenerationEvent>[],
  abort: AbortController,
  onEvent: (index: number, event: GenerationEvent) => void,
): Promise<void> {
  const ends = streams.map(async (events, index) => {
    const meter = metrics.request();
    try {
      for await (const event of events) {
        meter.observe(event);
        onEvent(index, event);
      }
    } catch (error) {
      abort.abort('sibling_failed' satisfies AbortCause);
      throw error;
    }
  });
  const failed = (await Promise.allSettled(ends)).find((result) => result.status === 'rejected');
  if (failed) throw failed.reason;
}

async function collect(
  context: GenerationContext,
  plan: Answer,
  streams: AsyncIterable<GenerationEvent>[],
  abort: AbortController,
): Promise<object> {
  const tokens: TokensEvent[][] = streams.map(() => []);
  const ends: (EndEvent | undefined)[] = streams.map(() => undefined);
  await consume(context, streams, abort, (index, event) => {
    if (event.type === 'tokens') tokens[index].push(event);
    else ends[index] = event;
  });
  if (abort.signal.reason === 'shutdown') throw shuttingDown();
  const results = ends.map((end, index): ChoiceResult => {
    if (!end) throw new HttpError(500, 'The engine ended this request without an answer.');
    return { text: tokens[index].map((event) => event.text).join(''), tokens: tokens[index], end };
  });
  return plan.format.whole(
    results,
    usageOf(
      plan,
      results.map((result) => result.end.usage.completionTokens),
    ),
  );
}

async function stream(
  context: GenerationContext,
  reply: FastifyReply,
  plan: Answer,
  streams: AsyncIterable<GenerationEvent>[],
  abort: AbortController,
): Promise<void> {
  const { format } = plan;
  const generated = streams.map(() => 0);
  const events = new EventStream(reply, {
    keepAliveMs: context.keepAliveMs,
    onOverflow: () => abort.abort('slow_reader' satisfies AbortCause),
  });
  const send = (chunk: object, index: number) => {
    if (plan.continuousUsage) {
      const promptTokens = plan.choices[index].promptTokenIds.length;
      Object.assign(chunk, { usage: usageOf({ promptTokens }, [generated[index]]) });
    } else if (plan.includeUsage) Object.assign(chunk, { usage: null });
    events.send(chunk);
  };
  try {
    for (const [index, chunk] of format.opening().entries()) send(chunk, index);
    await consume(context, streams, abort, (index, event) => {
      if (event.type === 'tokens') generated[index] += event.tokenIds.length;
      else generated[index] = event.usage.completionTokens;
      const chunk = event.type === 'tokens' ? format.tokens(index, event) : format.end(index, event);
      if (chunk) send(chunk, index);
    });
    if (abort.signal.reason === 'shutdown') throw shuttingDown();
    if (plan.includeUsage) events.send(format.usage(usageOf(plan, generated)));
    events.end({ done: true });
  } catch (error) {
    const failure = toHttpError(error);
    if (failure.status === 500) context.log(String((error as Error)?.stack ?? error));
    // The status is out already: the error is the last event, as vLLM sends it.
    events.send(failure.body);
    events.end({ done: false });
  }
}

function shuttingDown(): HttpError {
  return new HttpError(
    503,
    'The server is shutting down and this request did not finish in time. Try again.',
    {
      code: 'shutting_down',
      retryAfterSeconds: 5,
    },
  );
}

function usageOf({ promptTokens }: { promptTokens: number }, generated: number[]): UsageBody {
  const completionTokens = generated.reduce((sum, count) => sum + count, 0);
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: 0 },
  };
}
