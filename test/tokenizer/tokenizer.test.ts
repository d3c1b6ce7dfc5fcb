import { describe, expect, test } from 'vitest';
import { openModelDirectory } from '../../src/engine/model/modelFilesNode.ts';
import { loadTokenizer, Tokenizer, TokenizerError } from '../../src/engine/tokenizer/tokenizer.ts';
import { loadVocabulary } from '../../src/engine/tokenizer/vocabulary.ts';
import { TOKENIZERS, testTokenizer, tokenizerDirectory, tokenizerGolden, tokenizerJson } from './goldens.ts';

describe.each(TOKENIZERS)('%s', (name) => {
  const tokenizer = testTokenizer(name);
  const golden = tokenizerGolden(name);

  test('encodes as Hugging Face tokenizers does', () => {
    expect(golden.cases.length).toBeGreaterThan(190);
    for (const { text, ids, withSpecial } of golden.cases) {
      expect([text, tokenizer.encode(text, { addSpecialTokens: false })]).toEqual([text, ids]);
      expect([text, tokenizer.encode(text)]).toEqual([text, withSpecial]);
    }
  });

  test('decodes as Hugging Face tokenizers does', () => {
    for (const { text, withSpecial, decoded, decodedAll } of golden.cases) {
      expect([text, tokenizer.decode(withSpecial)]).toEqual([text, decoded]);
      expect([text, tokenizer.decode(withSpecial, { skipSpecialTokens: false })]).toEqual([text, decodedAll]);
    }
  });

  test('decodes ids at random the same, up to how many U+FFFD stand for wrong bytes', () => {
    let compared = 0;
    for (const { ids, decoded } of golden.randomIds) {
      if (name === 'byte-level') expect(tokenizer.decode(ids)).toBe(decoded);
      else if (!decoded.includes('\ufffd')) expect(tokenizer.decode(ids)).toBe(decoded);
      else continue;
      compared++;
    }
    expect(compared).toBeGreaterThan(3);
  });

  test('knows its size, its special tokens, and ids that have no token', () => {
    expect(tokenizer.vocabSize).toBe(golden.vocabSize);
    expect(tokenizer.specialTokens).toMatchObject({ bos_token: '<s>', eos_token: '</s>' });
    const special = [...tokenizer.vocabulary.specialIds].map((id) => tokenizer.vocabulary.tokenText(id).text);
    expect(special).toEqual(expect.arrayContaining(['<s>', '</s>', '<|start|>', '<|end|>']));
    expect(tokenizer.vocabulary.tokenText(golden.vocabSize + 5)).toEqual({ text: '', bytes: [] });
  });

  test('loads from a directory; the vocabulary alone decodes the same', async () => {
    const files = await openModelDirectory(tokenizerDirectory(name));
    const loaded = await loadTokenizer(files);
    const vocabulary = await loadVocabulary(files);
    await files.close();
    const { text, withSpecial, decoded } = golden.cases.at(-1)!;
    expect(loaded.encode(text)).toEqual(withSpecial);
    expect(vocabulary.decode(withSpecial)).toBe(decoded);
  });

  test('bytes of the tokens are the bytes of the text, behind the space that some put before it', () => {
    const before = name === 'byte-level' ? '' : ' ';
    const written = golden.cases.filter(({ text }) => text !== '' && !/^ |▁|<s>|<\|/.test(text));
    expect(written.length).toBeGreaterThan(90);
    for (const { text, ids } of written) {
      const bytes = ids.flatMap((id) => tokenizer.vocabulary.tokenText(id).bytes);
      const decoded = new TextDecoder('utf-8', { ignoreBOM: true }).decode(Uint8Array.from(bytes));
      expect(decoded.replaceAll(/ *\[tool\] */g, '[tool]')).toBe(
        (before + text).replaceAll(/ *\[tool\] */g, '[tool]'),
      );
    }
  });

  test('lone surrogates and odd input neither throw nor hang', () => {
    for (const text of ['\ud800', 'a\udc00b', '\ud83d', '\u0000'.repeat(100), '<'.repeat(2000)]) {
      expect(tokenizer.encode(text).every((id) => id >= 0 && id < golden.vocabSize)).toBe(true);
    }
  });
});

describe('unsupported tokenizers', () => {
  const change = (changes: object) => ({ ...(tokenizerJson('byte-level') as object), ...changes });

  test.each([
    ['no decoder', { decoder: null }, /decoder that is not supported: null/],
    ['WordPiece', { decoder: { type: 'WordPiece' } }, /'WordPiece'.*supported: ByteLevel/],
    ['a decoder that says nothing of spaces', { decoder: { type: 'Fuse' } }, /nothing about spaces/],
    [
      'a strip at the end',
      {
        decoder: {
          type: 'Sequence',
          decoders: [{ type: 'Fuse' }, { type: 'Strip', content: ' ', start: 0, stop: 1 }],
        },
      },
      /Strip/,
    ],
    [
      'a replacement by pattern',
      { decoder: { type: 'Replace', pattern: { Regex: 'a+' }, content: '' } },
      /Replace/,
    ],
    ['no vocabulary', { model: {} }, /no model.vocab/],
    ['an unknown model', { model: { type: 'WordPiece', vocab: {} } }, /'WordPiece'; supported: BPE, Unigram/],
  ])('%s', (_, changes, message) => {
    expect(() => new Tokenizer(change(changes), {})).toThrow(TokenizerError);
    expect(() => new Tokenizer(change(changes), {})).toThrow(message);
  });

  test('null is no tokenizer', () => {
    expect(() => new Tokenizer(null)).toThrow(TokenizerError);
  });
});
