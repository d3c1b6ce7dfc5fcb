import { describe, expect, test } from 'vitest';
import { ChatTemplateError, loadChatTemplate, renderChat } from '../../src/engine/tokenizer/chatTemplate.ts';
import { memoryFiles } from '../model/memory.ts';
import { chatGolden } from './goldens.ts';

const golden = chatGolden();
const user = [{ role: 'user', content: 'Hi' }];
const plain = { source: '{{ bos_token }}{{ messages[0].content }}', specialTokens: { bos_token: '<s>' } };

describe('renderChat', () => {
  test.each(golden.cases.map((entry) => [entry.template, entry.name, entry] as const))(
    'as transformers: %s, %s (%#)',
    (_, __, { template, messages, addGenerationPrompt, tools, text, error }) => {
      const chat = { source: golden.templates[template], specialTokens: golden.specialTokens };
      const render = () => renderChat(chat, messages, { addGenerationPrompt, ...(tools ? { tools } : {}) });
      if (error === undefined) expect(render()).toBe(text);
      else {
        expect(render).toThrow(ChatTemplateError);
        expect(render).toThrow(error);
      }
    },
  );

  test('special tokens and messages cannot be replaced by variables; others can be set', () => {
    const chat = { ...plain, source: `${plain.source}{{ enable_thinking }}` };
    const variables = { bos_token: 'evil', messages: [], enable_thinking: 'yes' };
    expect(renderChat(chat, user, { addGenerationPrompt: true, variables })).toBe('<s>Hiyes');
  });

  test('a template for tools is used when there are tools', () => {
    const chat = { ...plain, toolSource: '{{ tools | length }} tools' };
    expect(renderChat(chat, user, { addGenerationPrompt: true, tools: [{}, {}] })).toBe('2 tools');
    expect(renderChat(chat, user, { addGenerationPrompt: true, tools: [] })).toBe('<s>Hi');
  });

  test('errors say what is wrong', () => {
    const render = (source: string) => () =>
      renderChat({ ...plain, source }, user, { addGenerationPrompt: true });
    expect(render('{% if %}')).toThrow(ChatTemplateError);
    expect(render("{{ raise_exception('Only one turn') }}")).toThrow(
      /cannot render these messages: .*Only one turn/,
    );
    expect(render('{{ messages[5].content.strip() }}')).toThrow(ChatTemplateError);
    expect(() => renderChat(undefined, user, { addGenerationPrompt: true })).toThrow(
      /no chat template.*\/v1\/completions/,
    );
    expect(() => renderChat(plain, user, { addGenerationPrompt: true, maxLength: 4 })).toThrow(
      /has 5 characters; expected at most 4/,
    );
  });

  test('templates cannot reach outside their values', () => {
    for (const expression of [
      'messages.constructor',
      'messages.__proto__',
      "''.constructor",
      'raise_exception.constructor',
    ]) {
      const source = `{{ ${expression} is defined }}`;
      let outcome: string;
      try {
        outcome = renderChat({ ...plain, source }, user, { addGenerationPrompt: true });
      } catch (error) {
        expect(error).toBeInstanceOf(ChatTemplateError);
        outcome = 'false';
      }
      expect([expression, outcome.toLowerCase()]).toEqual([expression, 'false']);
    }
  });
});

describe('loadChatTemplate', () => {
  const config = (chat_template: unknown) =>
    memoryFiles({ 'tokenizer_config.json': { chat_template, eos_token: { content: '</s>' } } });

  test('reads every place where a model may keep it, in order', async () => {
    const specialTokens = { eos_token: '</s>' };
    expect(await loadChatTemplate(config('a'))).toEqual({ source: 'a', specialTokens });
    const named = [
      { name: 'tool_use', template: 't' },
      { name: 'default', template: 'd' },
    ];
    expect(await loadChatTemplate(config(named))).toEqual({ source: 'd', toolSource: 't', specialTokens });
    expect(await loadChatTemplate(config([{ name: 'only', template: 'o' }]))).toMatchObject({ source: 'o' });
    const all = {
      'tokenizer_config.json': { chat_template: 'config' },
      'chat_template.json': { chat_template: 'json' },
      'chat_template.jinja': 'jinja',
      'additional_chat_templates/tool_use.jinja': 'tools',
    };
    expect(await loadChatTemplate(memoryFiles(all))).toEqual({
      source: 'jinja',
      toolSource: 'tools',
      specialTokens: {},
    });
    const { 'chat_template.jinja': _, ...rest } = all;
    expect(await loadChatTemplate(memoryFiles(rest))).toMatchObject({ source: 'json' });
    expect(
      await loadChatTemplate(
        memoryFiles({ 'special_tokens_map.json': { bos_token: '<b>' }, 'chat_template.jinja': '' }),
      ),
    ).toEqual({
      source: '',
      specialTokens: { bos_token: '<b>' },
    });
  });

  test('a model without one, and one that is unusable', async () => {
    expect(await loadChatTemplate(memoryFiles({}))).toBeUndefined();
    expect(await loadChatTemplate(config(null))).toBeUndefined();
    for (const bad of [
      3,
      [],
      [
        { name: 'a', template: 'x' },
        { name: 'b', template: 'y' },
      ],
      [null],
    ]) {
      await expect(loadChatTemplate(config(bad))).rejects.toThrow(ChatTemplateError);
    }
  });
});
