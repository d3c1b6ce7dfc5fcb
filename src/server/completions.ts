/** POST /v1/completions: prompts as text or token ids, one or a batch, n choices of each. */
import type { FastifyInstance } from 'fastify';
import { badField } from './errors.ts';
import { readSampling, readStop, refuseUnsupported } from './fields.ts';
import {
  answer,
  type AnswerFormat,
  type ChoiceResult,
  type EndEvent,
  type GenerationContext,
  type TokensEvent,
} from './generation.ts';
import { answerHead, type AnswerHead, checkModel } from './identity.ts';
import { MAX_CHOICES } from './limits.ts';
import { completionLogprobs } from './logprobs.ts';
import { type Prompt, readPrompts } from './prompts.ts';
import { type CompletionBody, CompletionSchema } from './schemas.ts';

const DEFAULT_MAX_TOKENS = 16; // OpenAI's

export function completionRoutes(app: FastifyInstance, context: GenerationContext): void {
  app.post<{ Body: CompletionBody }>(
    '/v1/completions',
    { schema: { body: CompletionSchema } },
    async (request, reply) => {
      const { body } = request;
      const { client } = context;
      const { model } = client.info;
      checkModel(body.model, model);
      refuseUnsupported(body);
      if (body.stream_options && !body.stream)
        throw badField('stream_options', "'stream_options' is only allowed when 'stream' is true.");
      const logprobs = body.logprobs ?? undefined;
      if (body.echo && logprobs !== undefined)
        throw badField(
          'echo',
          "'echo' with 'logprobs' is not supported: prompt tokens have no logprobs here.",
        );
      const stop = readStop(body, model, body.max_tokens ?? DEFAULT_MAX_TOKENS);
      const prompts = await readPrompts(client, body.prompt, {
        addSpecialTokens: body.add_special_tokens ?? true,
        truncate: body.truncate_prompt_tokens,
      });
      const n = body.n ?? 1;
      if (prompts.length * n > MAX_CHOICES)
        throw badField(
          'n',
          `'n' is ${n} for ${prompts.length} prompts, expected at most ${MAX_CHOICES} choices altogether.`,
        );
      // Choices are numbered prompt by prompt, as in OpenAI's API.
      const ofChoice = prompts.flatMap((prompt) => Array.from({ length: n }, () => prompt));
      const echoed = body.echo ? await echoTexts(context, prompts) : undefined;
      const head = answerHead(request, reply, body.request_id, 'cmpl', model);
      return answer(context, request, reply, {
        choices: ofChoice.map((prompt, index) => ({
          promptTokenIds: prompt.tokenIds,
          sampling: readSampling(body, model, index, logprobs),
          stop,
        })),
        promptTokens: prompts.reduce((sum, prompt) => sum + prompt.tokenIds.length, 0),
        format: new CompletionFormat(head, body, ofChoice, echoed),
        stream: body.stream ?? false,
        includeUsage: body.stream_options?.include_usage ?? false,
        continuousUsage: body.stream_options?.continuous_usage_stats ?? false,
      });
    },
  );
}

/** Text of each prompt; token ids are decoded. */
async function echoTexts({ client }: GenerationContext, prompts: Prompt[]): Promise<Map<Prompt, string>> {
  const texts = await Promise.all(
    prompts.map((prompt) => prompt.text ?? client.decode(prompt.tokenIds, { skipSpecialTokens: false })),
  );
  return new Map(prompts.map((prompt, i) => [prompt, texts[i]]));
}

class CompletionFormat implements AnswerFormat {
  #head: AnswerHead;
  #body: CompletionBody;
  #prompts: Prompt[];
  #echoed?: Map<Prompt, string>;
  /** Where the next token's text begins, per choice. */
  #offsets: number[];

  constructor(head: AnswerHead, body: CompletionBody, prompts: Prompt[], echoed?: Map<Prompt, string>) {
    this.#head = head;
    this.#body = body;
    this.#prompts = prompts;
    this.#echoed = echoed;
    this.#offsets = prompts.map((prompt) => echoed?.get(prompt)!.length ?? 0);
  }

  whole(results: ChoiceResult[], usage: object): object {
    const choices = results.map(({ text, tokens, end }, index) => ({
      index,
      text: this.#echo(index) + text + stopText(this.#body, end),
      logprobs: this.#logprobs(index, tokens),
      finish_reason: end.finishReason,
      stop_reason: end.stopReason ?? null,
      ...(this.#body.return_token_ids && {
        prompt_token_ids: this.#prompts[index].tokenIds,
        token_ids: tokens.flatMap((event) => event.tokenIds),
      }),
    }));
    return this.#object(choices, { usage });
  }

  opening(): object[] {
    if (!this.#echoed && !this.#body.return_token_ids) return [];
    return this.#prompts.map((prompt, index) =>
      this.#object([
        {
          index,
          text: this.#echo(index),
          logprobs: null,
          finish_reason: null,
          stop_reason: null,
          ...(this.#body.return_token_ids && { prompt_token_ids: prompt.tokenIds, token_ids: [] }),
        },
      ]),
    );
  }

  tokens(index: number, event: TokensEvent): object | undefined {
    const isSilent = event.text === '' && !this.#body.return_token_ids && !event.logprobs?.length;
    if (isSilent) return undefined;
    return this.#object([
      {
        index,
        text: event.text,
        logprobs: this.#logprobs(index, [event]),
        finish_reason: null,
        stop_reason: null,
        ...(this.#body.return_token_ids && { token_ids: event.tokenIds }),
      },
    ]);
  }

  end(index: number, event: EndEvent): object {
    return this.#object([
      {
        index,
        text: stopText(this.#body, event),
        logprobs: null,
        finish_reason: event.finishReason,
        stop_reason: event.stopReason ?? null,
        ...(this.#body.return_token_ids && { token_ids: [] }),
      },
    ]);
  }

  usage(usage: object): object {
    return this.#object([], { usage });
  }

  #object(choices: object[], more: object = {}): object {
    return { ...this.#head, object: 'text_completion', choices, ...more };
  }

  #echo(index: number): string {
    return this.#echoed?.get(this.#prompts[index]) ?? '';
  }

  #logprobs(index: number, events: TokensEvent[]): object | null {
    if (typeof this.#body.logprobs !== 'number') return null;
    const tokens = events.flatMap((event) => event.logprobs ?? []);
    const body = completionLogprobs(tokens, this.#offsets[index]);
    this.#offsets[index] += tokens.reduce((sum, token) => sum + token.text.length, 0);
    return body;
  }
}

/** vLLM's include_stop_str_in_output: the engine cuts the stop string off, here it is put back. */
export function stopText(body: { include_stop_str_in_output?: boolean | null }, end: EndEvent): string {
  return body.include_stop_str_in_output && typeof end.stopReason === 'string' ? end.stopReason : '';
}
