/**
 * Pipelines to and from JSON. Reading is strict: an unknown key or a value of the wrong kind is an error that names its
 * place. Whether the pipeline computes a model is another question (validate.ts).
 */
import { LANES } from '../model/graph.ts';
import { PIPELINE_FORMAT, PIPELINE_VERSION, type Pipeline } from './pipeline.ts';

export class PipelineJsonError extends Error {
  override readonly name = 'PipelineJsonError';
}

/** One line for each nano-operation and stage, so that files can be compared. */
export function pipelineToJson(pipeline: Pipeline): string {
  const { nano, stages, ...head } = pipeline;
  const lines = Object.entries(head).map(
    ([key, value]) => `  ${JSON.stringify(key)}: ${JSON.stringify(value)}`,
  );
  const list = (key: string, items: readonly unknown[]): string =>
    items.length === 0
      ? `  "${key}": []`
      : `  "${key}": [\n${items.map((item) => `    ${JSON.stringify(item)}`).join(',\n')}\n  ]`;
  return `{\n${[...lines, list('nano', nano), list('stages', stages)].join(',\n')}\n}\n`;
}

/** @throws PipelineJsonError with the place, what is there and what was expected. */
export function parsePipeline(text: string): Pipeline {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new PipelineJsonError(
      `got text that is not JSON (${(error as Error).message}); expected a pipeline: use a file of nanoflow search`,
    );
  }
  return pipelineOf(value);
}

/** The same for a value that has been parsed already. */
export function pipelineOf(value: unknown): Pipeline {
  PIPELINE(value, '');
  return value as Pipeline;
}

type Check = (value: unknown, path: string) => void;

function fail(path: string, value: unknown, expected: string): never {
  const shown = value === undefined ? 'nothing' : JSON.stringify(value);
  const got = shown.length > 60 ? `${shown.slice(0, 57)}...` : shown;
  throw new PipelineJsonError(
    `${path || 'the pipeline'} is ${got}; expected ${expected}: correct it or search again`,
  );
}

function is(expected: string, test: (value: unknown) => boolean): Check {
  return (value, path) => {
    if (!test(value)) fail(path, value, expected);
  };
}

const text = is('a string', (value) => typeof value === 'string' && value !== '');

function oneOf(...values: readonly unknown[]): Check {
  return is(values.map((value) => JSON.stringify(value)).join(' or '), (value) => values.includes(value));
}

function whole(least: number): Check {
  return is(
    `a whole number from ${least} up`,
    (value) => Number.isSafeInteger(value) && (value as number) >= least,
  );
}

function listOf(item: Check, length?: number): Check {
  const expected = length === undefined ? 'a list' : `a list of ${length}`;
  return (value, path) => {
    if (!Array.isArray(value) || (length !== undefined && value.length !== length))
      fail(path, value, expected);
    value.forEach((each, i) => item(each, `${path}[${i}]`));
  };
}

function record(fields: Record<string, Check>, optional: Record<string, Check> = {}): Check {
  return (value, path) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) fail(path, value, 'an object');
    const at = (key: string): string => (path === '' ? key : `${path}.${key}`);
    for (const key of Object.keys(value)) {
      if (fields[key] || optional[key]) continue;
      fail(
        at(key),
        (value as Record<string, unknown>)[key],
        `no such key (known: ${Object.keys(fields).join(', ')})`,
      );
    }
    for (const [key, by] of Object.entries(fields)) by((value as Record<string, unknown>)[key], at(key));
    for (const [key, by] of Object.entries(optional))
      if (key in value) by((value as Record<string, unknown>)[key], at(key));
  };
}

const note: Check = is(
  'a string or a number',
  (value) => typeof value === 'string' || (typeof value === 'number' && Number.isFinite(value)),
);

const notes: Check = (value, path) => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) fail(path, value, 'an object');
  for (const [key, each] of Object.entries(value)) note(each, `${path}.${key}`);
};

const PIPELINE = record(
  {
    format: oneOf(PIPELINE_FORMAT),
    version: oneOf(PIPELINE_VERSION),
    name: text,
    model: text,
    device: text,
    ranks: whole(1),
    tokens: whole(1),
    decodeTokens: whole(0),
    workgroups: whole(1),
    nano: listOf(
      record({
        id: text,
        operation: text,
        lane: oneOf(...LANES),
        range: listOf(whole(0), 2),
        share: whole(1),
        after: listOf(record({ id: text, layer: oneOf(0, -1) })),
      }),
    ),
    stages: listOf(
      record(
        { members: listOf(record({ id: text, layer: oneOf(0, 1) })) },
        { colocated: oneOf(true, false) },
      ),
    ),
  },
  { notes, halves: record({ decode: whole(0), prefill: whole(0) }), greenContexts: oneOf(true) },
);
