/** POST /v1/chat/completions: messages through the model's chat template, n choices. */
import type { FastifyInstance } from 'fastify';
import { stopText } from './completions.ts';
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
import { chatLogprobs } from './logprobs.ts';
import { checkTokenIds, readChat, readChatOptions } from './prompts.ts';
import { type ChatBody, ChatSchema } from './schemas.ts';

export function chatRoutes(app: FastifyInstance, context: GenerationContext): void {
  app.post<{ Body: ChatBody }>(
    '/v1/chat/completions',
    { schema: { body: ChatSchema } },
    async (request, reply) => {
      const { body } = request;
      const { client } = context;
      const { model } = client.info;
      checkModel(body.model, model);
      refuseUnsupported(body);
      if (body.stream_options && !body.stream)
        throw badField('stream_options', "'stream_options' is only allowed when 'stream' is true.");
      if (body.top_logprobs && !body.logprobs)
        throw badField('top_logprobs', "'top_logprobs' is only allowed when 'logprobs' is true.");
      if ((body.truncate_prompt_tokens ?? null) !== null)
        throw badField('truncate_prompt_tokens', "'truncate_prompt_tokens' is not supported for chats.");
      const stop = readStop(body, model, body.max_completion_tokens ?? body.max_tokens ?? undefined);
      const logprobs = body.logprobs ? (body.top_logprobs ?? 0) : undefined;
      const chat = await readChat(client, body.messages, readChatOptions(body));
      const promptTokenIds = checkTokenIds(chat.tokenIds, model, 'messages');
      const n = body.n ?? 1;
      const head = answerHead(request, reply, body.request_id, 'chatcmpl', model);
      return answer(context, request, reply, {
        choices: Array.from({ length: n }, (_, index) => ({
          promptTokenIds,
          sampling: readSampling(body, model, index, logprobs),
          stop,
        })),
        promptTokens: promptTokenIds.length,
        format: new ChatFormat(head, body, n, promptTokenIds),
        stream: body.stream ?? false,
        includeUsage: body.stream_options?.include_usage ?? false,
        continuousUsage: body.stream_options?.continuous_usage_stats ?? false,
      });
    },
  );
}

class ChatFormat implements AnswerFormat {
  #head: AnswerHead;
  #body: ChatBody;
  #n: number;
  #promptTokenIds: number[];

  constructor(head: AnswerHead, body: ChatBody, n: number, promptTokenIds: number[]) {
    this.#head = head;
    this.#body = body;
    this.#n = n;
    this.#promptTokenIds = promptTokenIds;
  }

  whole(results: ChoiceResult[], usage: object): object {
    const choices = results.map(({ text, tokens, end }, index) => ({
      index,
      message: { role: 'assistant', content: text + stopText(this.#body, end), refusal: null },
      logprobs: this.#logprobs(tokens),
      finish_reason: end.finishReason,
      stop_reason: end.stopReason ?? null,
      ...(this.#body.return_token_ids && { token_ids: tokens.flatMap((event) => event.tokenIds) }),
    }));
    return { ...this.#head, object: 'chat.completion', choices, usage, ...this.#promptIds() };
  }

  opening(): object[] {
    return Array.from({ length: this.#n }, (_, index) => ({
      ...this.#chunk(index, { role: 'assistant', content: '' }),
      ...(index === 0 && this.#promptIds()),
    }));
  }

  tokens(index: number, event: TokensEvent): object | undefined {
    const isSilent = event.text === '' && !this.#body.return_token_ids && !event.logprobs?.length;
    if (isSilent) return undefined;
    return this.#chunk(
      index,
      { content: event.text },
      {
        logprobs: this.#logprobs([event]),
        ...(this.#body.return_token_ids && { token_ids: event.tokenIds }),
      },
    );
  }

  end(index: number, event: EndEvent): object {
    const text = stopText(this.#body, event);
    return this.#chunk(index, text ? { content: text } : {}, {
      finish_reason: event.finishReason,
      stop_reason: event.stopReason ?? null,
    });
  }

  usage(usage: object): object {
    return { ...this.#head, object: 'chat.completion.chunk', choices: [], usage };
  }

  #chunk(index: number, delta: object, more: object = {}): object {
    const choice = { index, delta, logprobs: null, finish_reason: null, ...more };
    return { ...this.#head, object: 'chat.completion.chunk', choices: [choice] };
  }

  #promptIds(): object {
    return this.#body.return_token_ids ? { prompt_token_ids: this.#promptTokenIds } : {};
  }

  #logprobs(events: TokensEvent[]): object | null {
    if (!this.#body.logprobs) return null;
    return chatLogprobs(events.flatMap((event) => event.logprobs ?? []));
  }
}
