import { describe, expect, it } from 'vitest';
import { evaluate, moduleConstants, sharedVariables } from '../../src/engine/device/webgpu/wgslConstants.ts';

const CODE = `
alias Row = vec4<f32>;
const SIDE = 8u;
const COLUMNS: u32 = SIDE * 2u - (SIDE >> 1u) / 3u; // 15
const SCALE = 1.5e2;
const LARGEST = max(SIDE * COLUMNS, 0x10u + SIDE % 3u);
var<workgroup> rows: array<Row, (SIDE + 1u) * 2u>;
var<workgroup> wide: array<vec3<u32>, LARGEST>;
var<workgroup> narrow: array<vec2<f16>, max(3u, SIDE)>;
var<workgroup> counts: array<atomic<u32>, SIDE>;
var<workgroup> ticket: u32;
var<workgroup> state: State;
fn main() { const SIDE = 5u; var private_one: array<u32, 4>; }
`;

describe('integer expressions', () => {
  it.each([
    ['2u + 3u * 4u', 14],
    ['(2 + 3) * 4i', 20],
    ['7u / 2u * 2u', 6],
    ['20u - 5u - 3u', 12],
    ['17 % 5', 2],
    ['1u << 4u', 16],
    ['max(1u, min(9u, 5u)) + A', 12],
    ['0x1Fu', 31],
  ])('%s = %i', (text, value) => {
    expect(evaluate(text, new Map([['A', 7]]))).toBe(value);
  });

  it.each(['1.5', '-1.0e30', 'B + 1u', '(1u', '1u 2u', 'vec2(1u)', '', '3u / 0u'])('"%s" is none', (text) => {
    expect(evaluate(text, new Map())).toBeUndefined();
  });
});

it('constants of a module', () => {
  const expected = { SIDE: 8, COLUMNS: 15, LARGEST: 120 };
  expect(Object.fromEntries(moduleConstants(CODE))).toEqual(expected);
});

it('variables in workgroup memory', () => {
  const found = sharedVariables(CODE).map(({ name, type, bytes }) => [name, type, bytes]);
  expect(found).toEqual([
    ['rows', 'vec4<f32>', 18 * 16],
    ['wide', 'vec3<u32>', 120 * 16],
    ['narrow', 'vec2<f16>', 8 * 4],
    ['counts', 'atomic<u32>', 32],
    ['ticket', 'u32', 4],
    ['state', 'State', NaN],
  ]);
});
