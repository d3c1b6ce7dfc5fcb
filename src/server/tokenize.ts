/** POST /tokenize and /detokenize in vLLM's shapes (its benchmark client needs them). */
import type { FastifyInstance } from 'fastify';
import type { EngineClient } from '../worker/types.ts';
import { badField, HttpError } from './errors.ts';
import { checkModel } from './identity.ts';
import { checkText, readChat, readChatOptions } from './prompts.ts';
import { type DetokenizeBody, DetokenizeSchema, type TokenizeBody, TokenizeSchema } from './schemas.ts';

/** Longest list of which each token's text is shown: one message to the text thread per token. */
const MAX_TOKEN_STRINGS = 4096;

export function tokenizeRoutes(app: FastifyInstance, client: EngineClient): void {
  const { model } = client.info;

  async function tokensOf(body: TokenizeBody): Promise<number[]> {
    if (body.messages) {
      const { text, tokenIds } = await readChat(client, body.messages, readChatOptions(body));
      return body.add_special_tokens ? client.encode(text, { addSpecialTokens: true }) : tokenIds;
    }
    if (typeof body.prompt !== 'string')
      throw new HttpError(400, "Missing required field 'prompt' (or 'messages').", {
        param: 'prompt',
        code: 'missing_field',
      });
    return client.encode(checkText(body.prompt, model, 'prompt'), {
      addSpecialTokens: body.add_special_tokens ?? true,
    });
  }

  app.post<{ Body: TokenizeBody }>('/tokenize', { schema: { body: TokenizeSchema } }, async ({ body }) => {
    checkModel(body.model, model);
    const tokens = await tokensOf(body);
    if (body.return_token_strs && tokens.length > MAX_TOKEN_STRINGS)
      throw badField(
        'return_token_strs',
        `'return_token_strs' is only allowed up to ${MAX_TOKEN_STRINGS} tokens, got ${tokens.length}.`,
      );
    const token_strs = body.return_token_strs
      ? await Promise.all(tokens.map((id) => client.decode([id], { skipSpecialTokens: false })))
      : null;
    return { count: tokens.length, max_model_len: model.maxModelLen, tokens, token_strs };
  });

  app.post<{ Body: DetokenizeBody }>(
    '/detokenize',
    { schema: { body: DetokenizeSchema } },
    async ({ body }) => {
      checkModel(body.model, model);
      const unknown = body.tokens.find((id) => id >= model.vocabSize);
      if (unknown !== undefined)
        throw badField(
          'tokens',
          `'tokens' holds token id ${unknown}, expected ids from 0 to ${model.vocabSize - 1}.`,
        );
      return { prompt: await client.decode(body.tokens, { skipSpecialTokens: false }) };
    },
  );
}
