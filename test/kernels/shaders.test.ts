import { describe, expect, it } from 'vitest';
import fc from 'fast-check';
import * as stepMeta from '../../src/engine/plan/stepMeta.ts';
import { SHADER_SOURCES, expandShader, numberedLines } from '../../src/engine/device/webgpu/shaders.ts';

const expand = (text: string, defines = {}, more: Record<string, string> = {}): string =>
  expandShader('x', defines, { 'x.wgsl': text, ...more });

describe('expandShader', () => {
  it('passes unknown text through', () => {
    const text = 'enable f16;\n@compute fn a() { let b = 1u << 2u; } // {x} # no directive\n';
    expect(expand(text)).toBe(text);
  });

  it('includes a file once, also from nested includes', () => {
    const more = { 'lib/a.wgsl': 'A\n#include "lib/b.wgsl"', 'lib/b.wgsl': 'B' };
    expect(expand('#include "lib/b.wgsl"\n#include "lib/a.wgsl"\nX', {}, more)).toBe('B\nA\nX');
  });

  it('substitutes numbers, text and booleans', () => {
    expect(expand('{{N}}u {{T}}x4 {{B}}', { N: 64, T: 'f16', B: true })).toBe('64u f16x4 true');
  });

  it('takes exactly the first branch that holds, at any depth', () => {
    const text = [
      '#if A',
      'a',
      '#elif M == 2',
      'two',
      '#if !B',
      'notB',
      '#endif',
      '#else',
      'other',
      '#endif',
    ];
    fc.assert(
      fc.property(fc.boolean(), fc.boolean(), fc.integer({ min: 1, max: 3 }), (A, B, M) => {
        const want = A ? 'a' : M === 2 ? (B ? 'two' : 'two\nnotB') : 'other';
        expect(expand(text.join('\n'), { A, B, M })).toBe(want);
      }),
    );
  });

  it('leaves dead branches alone: no includes, no substitution', () => {
    expect(expand('#if A\n{{NONE}}\n#include "none"\n#if NONE\n#endif\n#endif\nx', { A: false })).toBe('x');
    expect(expand('#if M != f16\nx\n#endif', { M: 'f32' })).toBe('x');
  });

  it.each([
    ['#if NAME\n#endif', /x\.wgsl:1: "NAME" is not defined/],
    ['a\n{{NAME}}', /x\.wgsl:2: "NAME" is not defined/],
    ['#if A', /#if without #endif/],
    ['#else', /#else without #if/],
    ['#include "lib/none.wgsl"', /no shader file "lib\/none\.wgsl"/],
    ['#if A && A\n#endif', /got condition "A && A"/],
  ])('refuses %j', (text, message) => {
    expect(() => expand(text, { A: true })).toThrow(message);
  });

  it('shows the lines around an error', () => {
    expect(numberedLines('a\nb\nc\nd', 3, 1)).toBe('  2 | b\n> 3 | c\n  4 | d');
  });
});

describe('lib/meta.wgsl', () => {
  it('has every constant of stepMeta.ts with the same value', () => {
    const found = new Map(
      [...SHADER_SOURCES['lib/meta.wgsl'].matchAll(/^const (\w+) = (\w+)u;/gm)].map((match) => [
        match[1],
        Number(match[2]),
      ]),
    );
    const upper = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase();
    const want = new Map<string, number>();
    for (const [name, value] of Object.entries(stepMeta)) {
      if (typeof value === 'number') want.set(name, value);
      else if (typeof value === 'object') {
        for (const [field, word] of Object.entries(value)) want.set(`${name}_${upper(field)}`, word);
      }
    }
    expect(Object.fromEntries(found)).toEqual(Object.fromEntries(want));
  });
});
