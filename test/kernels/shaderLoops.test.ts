import { describe, expect, it } from 'vitest';
import { expandShader } from '../../src/engine/device/webgpu/shaders.ts';

const expand = (text: string, defines = {}): string => expandShader('x', defines, { 'x.wgsl': text });

describe('#for', () => {
  it('repeats lines with the turn in place of the name, nested ones too', () => {
    const text = [
      '#for r ROWS',
      'row {{r}}',
      '#for v 3',
      'a_{{r}}_{{v}} = {{SIZE}};',
      '#endfor',
      '#endfor',
      'end',
    ];
    expect(expand(text.join('\n'), { ROWS: 2, SIZE: 7 }).split('\n')).toEqual([
      'row 0',
      ...[0, 1, 2].map((v) => `a_0_${v} = 7;`),
      'row 1',
      ...[0, 1, 2].map((v) => `a_1_${v} = 7;`),
      'end',
    ]);
  });

  it('leaves nothing of zero turns and obeys #if inside', () => {
    expect(expand('#for i N\nx{{i}}\n#endfor', { N: 0 })).toBe('');
    expect(expand('#for i 3\n#if A == 1\none\n#endif\nx{{i}}\n#endfor', { A: 1 })).toBe(
      ['one', 'x0', 'one', 'x1', 'one', 'x2'].join('\n'),
    );
  });

  it('names file and line of what is wrong', () => {
    expect(() => expand('a\n#for i N\n#endfor')).toThrow('shaders/x.wgsl:2: "N" is not defined');
    expect(() => expand('#for i 2\nx')).toThrow('shaders/x.wgsl:1: #for without #endfor');
    expect(() => expand('#endfor')).toThrow('shaders/x.wgsl:1: #endfor without #for');
    expect(() => expand('#for i')).toThrow('expected #for name COUNT');
  });
});
