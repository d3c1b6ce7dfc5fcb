/**
 * Integer constants of a WGSL module and the workgroup memory that it declares, without a compiler: enough for the
 * lengths of arrays (+ - * / % << >>, min, max, parentheses). Text must be free of comments.
 */

/** A variable in workgroup memory. */
export interface SharedVariable {
  name: string;
  /** Type of it, or of its elements when it is an array; aliases resolved. */
  type: string;
  /** Text of the array's length; undefined for a single value. */
  length?: string;
  /** NaN for a type whose size is not known here (structs). */
  bytes: number;
}

/** Values of `const NAME = expression;` at the module's top level, as far as they are integers. */
export function moduleConstants(code: string): Map<string, number> {
  const constants = new Map<string, number>();
  for (const [, name, expression] of code.matchAll(/^const\s+(\w+)\s*(?::[^=;]+)?=\s*([^;]+);/gm)) {
    const value = evaluate(expression, constants);
    if (value !== undefined) constants.set(name, value);
  }
  return constants;
}

const TOKEN = /0x[\da-f]+[iu]?|\d+[iu]?(?![\w.])|[A-Za-z_]\w*|<<|>>|[-+*/%(),]|\S/gi;
const LEVELS: Record<string, (a: number, b: number) => number>[] = [
  { '<<': (a, b) => a * 2 ** b, '>>': (a, b) => Math.floor(a / 2 ** b) },
  { '+': (a, b) => a + b, '-': (a, b) => a - b },
  { '*': (a, b) => a * b, '/': (a, b) => Math.trunc(a / b), '%': (a, b) => a % b },
];
const FUNCTIONS: Record<string, (...values: number[]) => number> = { min: Math.min, max: Math.max };

/** Value of an expression of integers, or undefined when it holds something else. */
export function evaluate(expression: string, constants: ReadonlyMap<string, number>): number | undefined {
  const tokens = expression.match(TOKEN) ?? [];
  let at = 0;
  const list = (): number[] => {
    const values = [binary(0)];
    while (tokens[at] === ',') {
      at++;
      values.push(binary(0));
    }
    return tokens[at++] === ')' ? values : [NaN];
  };
  const primary = (): number => {
    const token = tokens[at++] ?? '';
    if (token === '(') return list()[0];
    if (/^\d/.test(token)) return Number(token.replace(/[iu]$/, ''));
    if (Object.hasOwn(FUNCTIONS, token) && tokens[at] === '(') {
      at++;
      return FUNCTIONS[token](...list());
    }
    return constants.get(token) ?? NaN;
  };
  const binary = (level: number): number => {
    if (level === LEVELS.length) return primary();
    let value = binary(level + 1);
    while (Object.hasOwn(LEVELS[level], tokens[at] ?? '')) {
      const operation = LEVELS[level][tokens[at++]];
      value = operation(value, binary(level + 1));
    }
    return value;
  };
  const value = binary(0);
  return at === tokens.length && Number.isInteger(value) ? value : undefined;
}

const SHARED = /var<workgroup>\s+(\w+)\s*:\s*([^;]+);/g;
const ARRAY = /^array<(.+?),([^,]*(?:\(.*\)[^,]*)?)>$/;

/** Variables in workgroup memory, in the order of the text. */
export function sharedVariables(code: string): SharedVariable[] {
  const constants = moduleConstants(code);
  const aliases = new Map([...code.matchAll(/^alias\s+(\w+)\s*=\s*([^;]+);/gm)].map(([, a, b]) => [a, b]));
  return [...code.matchAll(SHARED)].map(([, name, declared]) => {
    const text = declared.replace(/\s+/g, '');
    const [, element, length] = ARRAY.exec(text) ?? [undefined, text];
    const type = (aliases.get(element) ?? element).replace(/\s+/g, '');
    const count = length === undefined ? 1 : (evaluate(length, constants) ?? NaN);
    return { name, type, length, bytes: count * elementBytes(type) };
  });
}

/** Bytes from one element of an array to the next. */
function elementBytes(type: string): number {
  const [, width = '1', scalar] = /^(?:vec([234])<)?([uif]32|f16|atomic<[ui]32>)>?$/.exec(type) ?? [];
  if (!scalar) return NaN;
  const lanes = width === '3' ? 4 : Number(width);
  return lanes * (scalar === 'f16' ? 2 : 4);
}
