import { describe, expect, test } from 'vitest';
import { checkImports, cycles, importGraph, readImports } from '../../scripts/lib/imports.js';

/** Problems of a tree given as path -> source. */
function problems(files: Record<string, string>): string[] {
  return checkImports(new Map(Object.entries(files)));
}

describe('arrows', () => {
  test.each([
    ['src/ui/chat/page.ts', `import { step } from '../../engine/engine.ts';`],
    ['src/ui/chat/page.ts', `import type { Engine } from '../../engine/engine.ts';`],
    ['src/ui/chat/page.ts', `import { start } from '../../worker/host.ts';`],
    ['src/ui/chat/page.ts', `import { connect } from '../../worker/node/client.ts';`],
    ['src/server/app.ts', `import { connect } from '../worker/web/client.ts';`],
    ['src/server/app.ts', `const { step } = await import('../engine/engine.ts');`],
    ['src/server/app.ts', `export { serve } from '../cli/serve.ts';`],
    ['src/cli/serve.ts', `export * from '../engine/engine.ts';`],
    ['src/engine/engine.ts', `import { app } from '../server/app.ts';`],
    ['src/engine/engine.ts', `import type { Host } from '../worker/host.ts';`],
    ['src/engine/model/files.ts', `import { open } from 'node:fs/promises';`],
    ['src/ui/chat/page.ts', `import { join } from 'node:path';`],
    ['src/worker/port.ts', `import { Worker } from 'node:worker_threads';`],
    ['src/worker/client.ts', `import { Command } from '../cli/main.ts';`],
    ['src/ui/chat/page.ts', `new Worker(new URL('../../engine/run.ts', import.meta.url));`],
    ['src/engine/engine.ts', `let host: import('../worker/host.ts').Host;`],
    ['src/engine/engine.ts', `import { helper } from '../../test/helper.ts';`],
    ['src/protocol.ts', `import { STEP } from './engine/engine.ts';`],
    ['src/protocol.ts', `import type { Command } from 'commander';`],
    ['src/engine/engine.ts', `import { anything } from '../protocol.ts';`],
  ])('refuses, in %s: %s', (path, source) => {
    const found = problems({ [path]: source });
    expect(found).toHaveLength(1);
    expect(found[0]).toContain(`${path}:1: imports `);
  });

  test.each([
    ['src/ui/chat/page.ts', `import type { X } from '../../protocol.ts';`],
    [
      'src/ui/chat/page.ts',
      `import { connect } from '../../worker/web/client.ts'; import { html } from 'lit';`,
    ],
    ['src/server/app.ts', `import { createHash } from 'node:crypto'; import fastify from 'fastify';`],
    ['src/cli/serve.ts', `import { app } from '../server/app.ts'; import info from '../../package.json';`],
    ['src/engine/model/modelFilesNode.ts', `import { open } from 'node:fs/promises';`],
    ['src/engine/model/files.node.ts', `import { open } from 'node:fs/promises';`],
    ['src/worker/node/engineWorker.ts', `import { parentPort } from 'node:worker_threads';`],
    ['src/worker/host.ts', `import { Engine } from '../engine/engine.ts';`],
    ['src/server/app.ts', `import { type EngineClient, GenerateError } from '../worker/types.ts';`],
    ['src/protocol.ts', `import type { Step } from './engine/engine.ts';`],
    ['test/engine/engine.test.ts', `import { app } from '../../src/server/app.ts'; import 'node:fs';`],
  ])('allows, in %s: %s', (path, source) => {
    expect(problems({ [path]: source })).toEqual([]);
  });

  test('names the line', () => {
    const [found] = problems({ 'src/ui/a.ts': `// one\n\nimport { b } from '../server/b.ts';\n` });
    expect(found).toMatch(/^src\/ui\/a\.ts:3: imports src\/server\/b\.ts, but ui imports only/);
  });
});

describe('cycles', () => {
  test('finds a cycle of any length, and prints its way round', () => {
    for (const length of [1, 2, 3, 7]) {
      const files: Record<string, string> = { 'src/engine/outside.ts': `import './f0.ts';` };
      for (let i = 0; i < length; i++)
        files[`src/engine/f${i}.ts`] = `import { x } from './f${(i + 1) % length}.ts';`;
      const found = problems(files);
      expect(found).toHaveLength(1);
      for (let i = 0; i < length; i++) expect(found[0]).toContain(`src/engine/f${i}.ts`);
      expect(found[0]).not.toContain('outside');
    }
  });

  test('finds two separate cycles, and one that dynamic imports and re-exports close', () => {
    const graph = importGraph(
      new Map([
        ['a.ts', `export * from './b.ts'; import './c.ts';`],
        ['b.ts', `await import('./a.ts');`],
        ['c.ts', `import './d.ts';`],
        ['d.ts', `import './c.ts'; import './e.ts';`],
        ['e.ts', ``],
      ]),
    );
    const found = cycles(graph);
    expect(
      found.map((line) => line.slice('import cycle: '.length).split(' -> ').sort().join()).sort(),
    ).toEqual(['a.ts,a.ts,b.ts', 'c.ts,c.ts,d.ts'].map((names) => names.split(',').sort().join()));
  });

  test('a diamond is no cycle, and neither is one closed by types alone', () => {
    expect(
      problems({
        'src/engine/a.ts': `import { b } from './b.ts'; import { c } from './c.ts';`,
        'src/engine/b.ts': `import { d } from './d.ts';`,
        'src/engine/c.ts': `import { d } from './d.ts';`,
        'src/engine/d.ts': `import type { A } from './a.ts'; import { type B } from './b.ts';`,
      }),
    ).toEqual([]);
  });
});

test('a mixed import is a value import; all type specifiers make it a type import', () => {
  const read = readImports(
    'a.ts',
    `import { type A, b } from './x.ts'; import { type C, type D } from './y.ts';`,
  );
  expect(read.map(({ specifier, typeOnly }) => [specifier, typeOnly])).toEqual([
    ['./x.ts', false],
    ['./y.ts', true],
  ]);
});

test('a file that does not parse is an error, not an empty list', () => {
  expect(() => readImports('a.ts', 'import { from')).toThrow(/a\.ts does not parse/);
});
