import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { StreamDetokenizer } from '../../src/engine/tokenizer/detokenizer.ts';
import { TOKENIZERS, testTokenizer } from './goldens.ts';

/** Texts of emoji with joiners, CJK, combining marks, spaces and plain words. */
const texts = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        '👩‍👩‍👧‍👦',
        '😀',
        '🇯🇵',
        'é',
        'e\u0301',
        '日本',
        '한',
        '\u200d',
        '\ufeff',
        ' ',
        '  ',
        '\n',
        'hello',
        ' world',
        '<0x41>',
        '\0',
      ),
      fc.string({ unit: 'grapheme', maxLength: 4 }),
      fc.string({ unit: 'binary', maxLength: 3 }),
    ),
    { maxLength: 12 },
  )
  .map((pieces) => pieces.join('').toWellFormed().replaceAll('▁', '_'));

/** Ends inside a surrogate pair, or shows a character that was begun. */
const isHalf = (text: string) => !text.isWellFormed() || text.includes('\ufffd');

describe.each(TOKENIZERS)('%s', (name) => {
  const tokenizer = testTokenizer(name);
  const { vocabulary } = tokenizer;
  const noSpecials = (text: string) => !/<s>|<\/s>|<unk>|<\|(start|end)\|>/.test(text);

  test('pieces are whole characters and together the text', () => {
    fc.assert(
      fc.property(texts.filter(noSpecials), (text) => {
        fc.pre(!text.includes('\ufffd'));
        const ids = tokenizer.encode(text, { addSpecialTokens: false });
        const stream = new StreamDetokenizer(vocabulary, { atStart: true });
        const pieces = ids.map((id) => stream.push(id));
        expect(stream.flush()).toBe('');
        expect(pieces.some(isHalf)).toBe(false);
        // This shape writes no space of its own before a text that begins with one, and drops one all the same.
        const lost = name === 'metaspace' ? /^ +/ : /^$/;
        expect(pieces.join('').replace(lost, '')).toBe(text.replace(lost, ''));
      }),
      { numRuns: 300 },
    );
  });

  test('a text of single bytes comes out a character at a time', () => {
    const byteIds = new Map<number, number>();
    for (let id = 0; id < vocabulary.size; id++) {
      const bytes = vocabulary.bytes(id);
      if (bytes.length === 1) byteIds.set(bytes[0], byteIds.get(bytes[0]) ?? id);
    }
    expect(byteIds.size).toBe(256);
    const stream = new StreamDetokenizer(vocabulary, { atStart: false });
    const pieces = [...new TextEncoder().encode('aé日😀')].map((byte) => stream.push(byteIds.get(byte)!));
    expect(pieces).toEqual(['a', '', 'é', '', '', '日', '', '', '', '😀']);
  });

  test('any ids at all: pieces together are the text of all, and every piece is well formed', () => {
    const ids = fc.array(fc.nat(vocabulary.size + 2), { maxLength: 30 });
    fc.assert(
      fc.property(ids, fc.boolean(), (sequence, skipSpecialTokens) => {
        const stream = new StreamDetokenizer(vocabulary, { atStart: true, skipSpecialTokens });
        const pieces = [...sequence.map((id) => stream.push(id)), stream.flush()];
        expect(pieces.every((piece) => piece.isWellFormed())).toBe(true);
        expect(pieces.join('')).toBe(vocabulary.decode(sequence, { skipSpecialTokens }));
      }),
    );
  });

  test('cut anywhere into prompt and answer, the answer continues the prompt', () => {
    fc.assert(
      fc.property(texts.filter(noSpecials), fc.nat(), (text, at) => {
        const ids = tokenizer.encode(text, { addSpecialTokens: false });
        const cut = at % (ids.length + 1);
        const prompt = new StreamDetokenizer(vocabulary, { atStart: true });
        const before = ids.slice(0, cut).reduce((all, id) => all + prompt.push(id), '');
        const answer = vocabulary.openDetokenizer(ids.slice(0, cut));
        const after = ids.slice(cut).reduce((all, id) => all + answer.push(id), '') + answer.flush();
        expect(before + after).toBe(vocabulary.decode(ids));
      }),
      { numRuns: 300 },
    );
  });

  test('a character that is never completed shows when the text ends', () => {
    const stream = new StreamDetokenizer(vocabulary, { atStart: false });
    const first = [...Array(vocabulary.size).keys()].find((id) => vocabulary.bytes(id).join() === '240')!;
    expect(stream.push(first)).toBe('');
    expect(stream.flush()).toBe('\ufffd');
    expect(stream.flush()).toBe('');
  });
});

describe('leading spaces', () => {
  test.each(['sentencepiece', 'metaspace'])(
    '%s: dropped where a text begins, kept after a prompt',
    (name) => {
      const tokenizer = testTokenizer(name);
      const encode = (text: string) => tokenizer.encode(text, { addSpecialTokens: false });
      const open = (prompt: number[]) => {
        const stream = tokenizer.vocabulary.openDetokenizer(prompt);
        return encode('world').reduce((text, id) => text + stream.push(id), '');
      };
      const bos = tokenizer.encode('')[0];
      expect(open([])).toBe('world');
      expect(open([bos])).toBe('world');
      expect(open([bos, ...encode('hello')])).toBe(' world');
    },
  );
});
