/**
 * Chat templates: finding a model's template and rendering it with @huggingface/jinja.
 *
 * A template is untrusted code without limits of its own (a loop may run for hours, a string double without end):
 * renderChat() belongs in a worker that can be killed. It touches nothing but its arguments and the clock.
 */

import { Template } from '@huggingface/jinja';
import { readJsonIfPresent, readText, type ModelFiles } from '../model/modelFiles.ts';
import { readTokenizerConfig, specialTokens, type SpecialTokens } from './tokenizerConfig.ts';

/** The model has no usable template, or the template refuses the messages; the message says which. */
export class ChatTemplateError extends Error {
  override name = 'ChatTemplateError';
}

/** Plain data, to be sent to the worker that renders. */
export interface ChatTemplate {
  readonly source: string; // Jinja
  /** The template for requests with tools, where the model has one of its own. */
  readonly toolSource?: string;
  readonly specialTokens: SpecialTokens;
}

export interface ChatOptions {
  /** Whether the text ends with the header of the assistant's turn. */
  readonly addGenerationPrompt: boolean;
  /** Tool definitions as in OpenAI's API. */
  readonly tools?: readonly unknown[];
  /** Further variables of the template, as enable_thinking. The caller decides which are allowed. */
  readonly variables?: Readonly<Record<string, unknown>>;
  /** Longest text that may come out, in UTF-16 units. */
  readonly maxLength?: number;
}

/**
 * The model's template: chat_template.jinja, else chat_template.json, else tokenizer_config.json's chat_template (a
 * template, or a list of named ones). Undefined when the model has none: it is then no chat model.
 */
export async function loadChatTemplate(files: ModelFiles): Promise<ChatTemplate | undefined> {
  const config = await readTokenizerConfig(files);
  const special = specialTokens(config);
  const toolFile = 'additional_chat_templates/tool_use.jinja';
  if (await files.has('chat_template.jinja')) {
    const source = await readText(files, 'chat_template.jinja');
    const toolSource = (await files.has(toolFile)) ? await readText(files, toolFile) : undefined;
    return { source, ...(toolSource === undefined ? {} : { toolSource }), specialTokens: special };
  }
  const file = (await readJsonIfPresent(files, 'chat_template.json')) as
    { chat_template?: unknown } | undefined;
  const value = file?.chat_template ?? config.chat_template;
  if (value === undefined || value === null) return undefined;
  const sources = namedSources(value);
  const source = sources?.get('default') ?? (sources?.size === 1 ? [...sources.values()][0] : undefined);
  if (source === undefined) {
    throw new ChatTemplateError(
      `${files.location} has a chat_template without a default; expected a Jinja text, or a list of {name, template} with the name 'default'`,
    );
  }
  const toolSource = sources!.get('tool_use');
  return { source, ...(toolSource === undefined ? {} : { toolSource }), specialTokens: special };
}

function namedSources(value: unknown): Map<string, string> | undefined {
  if (typeof value === 'string') return new Map([['default', value]]);
  if (typeof value !== 'object' || value === null) return undefined;
  const entries: [unknown, unknown][] = Array.isArray(value)
    ? value.map((entry: { name?: unknown; template?: unknown } | null) => [entry?.name, entry?.template])
    : Object.entries(value);
  return new Map(
    entries.filter((entry): entry is [string, string] => entry.every((part) => typeof part === 'string')),
  );
}

/**
 * The text of a conversation, special tokens included: encode it with addSpecialTokens false.
 * @throws ChatTemplateError with the template's own words when it refuses the messages
 */
export function renderChat(
  template: ChatTemplate | undefined,
  messages: readonly unknown[],
  options: ChatOptions,
): string {
  if (!template) {
    throw new ChatTemplateError(
      'the model has no chat template, so it cannot answer chats; use /v1/completions, or add a chat_template.jinja to the model',
    );
  }
  const { addGenerationPrompt, tools, variables, maxLength } = options;
  const withTools = tools !== undefined && tools.length > 0;
  let text: string;
  try {
    text = new Template(withTools ? (template.toolSource ?? template.source) : template.source).render({
      ...variables,
      ...template.specialTokens,
      messages,
      // Absent ones are none, not undefined: templates ask both `if tools` and `tools is not none`.
      tools: withTools ? tools : null,
      documents: null,
      add_generation_prompt: addGenerationPrompt,
    });
  } catch (error) {
    throw new ChatTemplateError(
      `the chat template cannot render these messages: ${(error as Error).message}`,
    );
  }
  if (maxLength !== undefined && text.length > maxLength) {
    throw new ChatTemplateError(
      `the rendered chat has ${text.length} characters; expected at most ${maxLength}`,
    );
  }
  return text;
}
