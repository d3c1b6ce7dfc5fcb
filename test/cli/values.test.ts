/** Strict reading of values, tables, and the lines shown while loading. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LoadReport } from '../../src/cli/loadReport.ts';
import { formatTable } from '../../src/cli/table.ts';
import { bytes, collect, decimal, integer, integers } from '../../src/cli/values.ts';

describe('integer', () => {
  it('reads every whole number in its range and nothing else', () => {
    fc.assert(
      fc.property(fc.maxSafeInteger(), fc.integer(), fc.nat(), (value, minimum, width) => {
        const read = integer(minimum, minimum + width);
        if (value >= minimum && value <= minimum + width) expect(read(String(value))).toBe(value);
        else expect(() => read(String(value))).toThrow(`from ${minimum} to ${minimum + width}`);
      }),
    );
  });
  it.each([
    '',
    ' ',
    '1.0',
    '1e3',
    '0x10',
    '1 ',
    'ten',
    '--1',
    '1_000',
    'NaN',
    'Infinity',
    '99999999999999999',
  ])('refuses %j', (text) => {
    expect(() => integer(-1e9)(text)).toThrow('whole number');
  });
  it('reads lists', () => {
    expect(integers(1)('1, 4,16')).toEqual([1, 4, 16]);
    expect(() => integers(1)('1,,2')).toThrow('whole number');
  });
});

describe('decimal', () => {
  it.each([
    ['0.5', 0.5],
    ['.5', 0.5],
    ['2', 2],
    ['1.', 1],
  ])('reads %s', (text, value) => {
    expect(decimal(0, 2)(text)).toBe(value);
  });
  it.each(['', '.', '2.1', '-1', '1e0', 'x', '1,5', 'NaN'])('refuses %j', (text) => {
    expect(() => decimal(0, 2)(text)).toThrow('from 0 to 2');
  });
});

describe('bytes', () => {
  it.each([
    ['512MiB', 512 * 2 ** 20],
    ['2GB', 2e9],
    ['1.5 GiB', 1.5 * 2 ** 30],
    ['100', 100],
    ['10kb', 10_000],
    ['7B', 7],
  ])('reads %s', (text, value) => {
    expect(bytes(text)).toBe(value);
  });
  it.each(['', '0', '-1', '1XB', 'MiB', '1e9', '1.2.3GB', '99999999TB', '0.1B'])('refuses %j', (text) => {
    expect(() => bytes(text)).toThrow('512MiB');
  });
});

it('collects an option given several times', () => {
  expect(collect('b', collect('a'))).toEqual(['a', 'b']);
});

describe('formatTable', () => {
  it('lines up columns, numbers to the right', () => {
    const table = formatTable(
      ['name', 'n'],
      [
        ['a', 5],
        ['long name', 12.5],
      ],
    );
    expect(table).toBe('name          n\na             5\nlong name  12.5\n');
  });
});

describe('LoadReport', () => {
  function report(isTTY: boolean, verbose: boolean): string {
    let text = '';
    const load = new LoadReport({ isTTY, write: (piece) => (text += piece) }, { verbose });
    load.update({ stage: 'device', done: 0, total: 1, unit: 'steps', detail: 'auto' });
    load.update({ stage: 'weights', done: 500, total: 2000, unit: 'bytes', detail: 'a' });
    load.update({ stage: 'weights', done: 2000, total: 2000, unit: 'bytes', detail: 'b' });
    load.update({ stage: 'weights', done: 1, total: 1, unit: 'bytes', detail: 'ignored tensor x' });
    load.update({ stage: 'compile', done: 1, total: 0, unit: 'kernels', detail: 'gemm (12.0 ms)' });
    load.update({ stage: 'compile', done: 2, total: 0, unit: 'kernels', detail: 'sample (3.0 ms)' });
    load.update({ stage: 'ready', done: 1, total: 1, unit: 'steps', detail: '' });
    load.end();
    return text;
  }
  it('says a line per stage in a log, with what was done', () => {
    expect(report(false, false)).toMatch(/^weights  2\.0 kB in 0\.0 s\ncompile  2 kernels in 0\.0 s\n$/);
  });
  it('names each kernel when asked', () => {
    expect(report(false, true)).toContain('compile  gemm (12.0 ms)\ncompile  sample (3.0 ms)\n');
  });
  it('leaves a clean line on a terminal', () => {
    const shown = report(true, false).split('\r\x1b[K').join('');
    expect(shown).toMatch(/^weights  .*\ncompile  .*\n$/);
  });
});
