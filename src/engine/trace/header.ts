/** Reads a trace's header strictly: field by field, with the name of what is wrong. */
import { describe } from './columns.ts';
import type { Facts, TraceHeader } from './trace.ts';

type Check = (value: unknown) => boolean;
interface Field {
  expected: string;
  check: Check;
  optional?: boolean;
}

const text: Field = { expected: 'text', check: (value) => typeof value === 'string' };
const amount: Field = {
  expected: 'a number from 0 up',
  check: (value) => typeof value === 'number' && value >= 0 && Number.isFinite(value),
};
const optional = (field: Field): Field => ({ ...field, optional: true });
const oneOf = (...values: (string | boolean)[]): Field => ({
  expected: values.map((value) => JSON.stringify(value)).join(' or '),
  check: (value) => values.includes(value as string),
});
const facts: Field = {
  expected: 'texts, numbers and booleans by name',
  check: (value) =>
    isRecord(value) &&
    Object.values(value).every((fact) => ['string', 'number', 'boolean'].includes(typeof fact)),
};
const record: Field = { expected: 'an object', check: isRecord };

const HEADER: Record<keyof TraceHeader, Field> = {
  source: oneOf('sim', 'webgpu', 'cuda', 'cpu', 'import'),
  producer: text,
  date: optional(text),
  commit: optional(text),
  command: optional(text),
  device: record,
  clock: record,
  intrusive: oneOf(true, false),
  workload: optional(facts),
  plan: optional(facts),
  modelVersion: optional(text),
};

const DEVICE: Record<keyof TraceHeader['device'], Field> = {
  name: text,
  units: amount,
  unitKind: oneOf('sm', 'workgroup', 'core'),
  peakFlops: optional(amount),
  peakBandwidth: optional(amount),
  linkBandwidth: optional(amount),
};

const CLOCK: Record<keyof TraceHeader['clock'], Field> = {
  unit: oneOf('ns'),
  resolutionNs: amount,
  method: text,
  synced: { expected: 'false or a number of ns', check: (value) => value === false || amount.check(value) },
};

/** @throws Error naming the field, what it is and what was expected */
export function parseHeader(json: unknown): TraceHeader {
  const header = check('header', HEADER, json);
  return {
    ...header,
    device: check('header.device', DEVICE, header['device']),
    clock: check('header.clock', CLOCK, header['clock']),
  } as unknown as TraceHeader;
}

function check(name: string, fields: Record<string, Field>, json: unknown): Record<string, unknown> {
  if (!isRecord(json)) throw new Error(`trace: '${name}' is ${describe(json)}; expected an object`);
  for (const key of Object.keys(json)) {
    if (!Object.hasOwn(fields, key))
      throw new Error(`trace: '${name}.${key}' is no field; expected ${Object.keys(fields).join(', ')}`);
  }
  for (const [key, { expected, check, optional }] of Object.entries(fields)) {
    if (json[key] === undefined && optional) continue;
    if (!check(json[key]))
      throw new Error(`trace: '${name}.${key}' is ${describe(json[key])}; expected ${expected}`);
  }
  return json;
}

function isRecord(value: unknown): value is Facts {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
