import { execFile, execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const repository = fileURLToPath(new URL('../../', import.meta.url));
let folder: string;

const write = (path: string, text: string) => {
  mkdirSync(dirname(join(folder, path)), { recursive: true });
  writeFileSync(join(folder, path), text);
};

/** Runs a script of the small project; resolves with its outcome whether it succeeds or not. */
async function run(script: string, args: string[] = [], env: Record<string, string> = {}) {
  const child = promisify(execFile)(process.execPath, [join(folder, script), ...args], {
    cwd: tmpdir(),
    env: { ...process.env, ...env },
  });
  return child.then(
    ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
    ({ code, stdout, stderr }) => ({ code: code as number, stdout: String(stdout), stderr: String(stderr) }),
  );
}

const shaders = `export const shaders: Record<string, string> = import.meta.glob('/shaders/**/*.wgsl', {
  query: '?raw', import: 'default', eager: true });`;
const report = (say: string) =>
  `import { shaders } from '../../engine/shaders.ts';\n${say}(JSON.stringify(shaders));\n`;

/** A project with this repository's build and command, and the least sources that use every kind of bundle. */
function makeProject() {
  folder = mkdtempSync(join(tmpdir(), 'nanoflow-build-'));
  for (const path of ['bin', 'scripts', 'test/setup', 'vite.config.ts', 'package.json', 'tsconfig.json']) {
    cpSync(join(repository, path), join(folder, path), { recursive: true });
  }
  symlinkSync(join(repository, 'node_modules'), join(folder, 'node_modules'));
  write('shaders/double.wgsl', 'fn double() {}');
  write('shaders/lib/shared.wgsl', 'fn shared() {}');
  write('src/engine/shaders.ts', shaders);
  write(
    'src/worker/node/engineWorker.ts',
    `import { parentPort } from 'node:worker_threads';\n${report('parentPort!.postMessage')}`,
  );
  write(
    'src/worker/node/textWorker.ts',
    `import { parentPort } from 'node:worker_threads';\nparentPort!.postMessage('text');`,
  );
  write('src/worker/web/engineWorker.ts', report('postMessage'));
  write(
    'src/cli/main.ts',
    `import { Worker } from 'node:worker_threads';
import { Command } from 'commander';
const { args } = new Command('nanoflow').argument('[word]').parse();
const worker = new Worker(new URL('./engineWorker.js', import.meta.url));
worker.on('message', (message) => console.log(args.join(), message));`,
  );
  write(
    'src/ui/index.html',
    '<!doctype html><title>page</title><script type="module" src="./main.ts"></script>',
  );
  write(
    'src/ui/main.ts',
    `new Worker(new URL('../worker/web/engineWorker.ts', import.meta.url), { type: 'module' });`,
  );
}

const old = new Date(Date.now() - 3600_000);
const edited = (path: string) => utimesSync(join(folder, path), new Date(), new Date(Date.now() + 2000));

describe('the build and the command, in a clone', () => {
  beforeAll(makeProject);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test('the first command builds, says so on stderr, and runs', async () => {
    const { code, stdout, stderr } = await run('bin/nanoflow.js', ['hello']);
    expect(stderr).toContain('building');
    expect(code).toBe(0);
    expect(stdout).toBe(
      'hello {"/shaders/double.wgsl":"fn double() {}","/shaders/lib/shared.wgsl":"fn shared() {}"}\n',
    );
  });

  test('the page lies at the top of dist/app, and its links lead to files', () => {
    const page = readFileSync(join(folder, 'dist/app/index.html'), 'utf8');
    const links = [...page.matchAll(/(?:src|href)="([^"]+)"/g)].map((match) => match[1]!);
    expect(links.length).toBeGreaterThan(0);
    for (const link of links) expect(existsSync(join(folder, 'dist/app', link)), link).toBe(true);
  });

  test('the web worker is a bundle of its own with the shaders in it', () => {
    const assets = readdirSync(join(folder, 'dist/app/assets'));
    const worker = assets.find((name) => name.startsWith('engineWorker'))!;
    expect(readFileSync(join(folder, 'dist/app/assets', worker), 'utf8')).toContain('fn double() {}');
  });

  test('a second command builds nothing; one after an edit, a new or a removed file builds', async () => {
    const builds = async () => (await run('bin/nanoflow.js', ['x'])).stderr.includes('building');
    expect(await builds()).toBe(false);
    edited('shaders/double.wgsl');
    expect(await builds()).toBe(true);
    utimesSync(join(folder, 'shaders/double.wgsl'), old, old);
    await run('scripts/build.js');
    expect(await builds()).toBe(false);
    write('src/ui/unused.ts', '');
    edited('src/ui');
    expect(await builds()).toBe(true);
    rmSync(join(folder, 'src/ui/unused.ts'));
    utimesSync(join(folder, 'src/ui'), old, old);
    await run('scripts/build.js');
  });

  test('commands started together build once and all run', async () => {
    rmSync(join(folder, 'dist'), { recursive: true });
    const runs = await Promise.all(['a', 'b', 'c'].map((word) => run('bin/nanoflow.js', [word])));
    expect(runs.map(({ code, stdout }) => [code, stdout[0]])).toEqual([
      [0, 'a'],
      [0, 'b'],
      [0, 'c'],
    ]);
    expect(runs.filter(({ stderr }) => stderr.includes('built dist/node'))).toHaveLength(1);
  });

  test('a source that does not build leaves the old bundles, and the command says why it stops', async () => {
    const good = readFileSync(join(folder, 'src/cli/main.ts'), 'utf8');
    const before = readFileSync(join(folder, 'dist/node/cli.js'), 'utf8');
    write('src/cli/main.ts', 'import {');
    edited('src/cli/main.ts');
    const { code, stderr } = await run('bin/nanoflow.js', ['x']);
    expect(code).toBe(1);
    expect(stderr).toContain('main.ts');
    expect(stderr).toMatch(/nanoflow: the build failed/);
    expect(readFileSync(join(folder, 'dist/node/cli.js'), 'utf8')).toBe(before);
    expect(readdirSync(join(folder, '.cache'))).toEqual([]);
    write('src/cli/main.ts', good);
  });

  test('without the development packages, prepare succeeds and build says what to do', async () => {
    rmSync(join(folder, 'node_modules'));
    const prepare = await run('scripts/build.js', [], { npm_lifecycle_event: 'prepare' });
    expect([prepare.code, prepare.stdout]).toEqual([0, expect.stringContaining('npm ci')]);
    const build = await run('scripts/build.js', [], { npm_lifecycle_event: 'build' });
    expect([build.code, build.stderr]).toEqual([1, expect.stringContaining('npm ci')]);
    symlinkSync(join(repository, 'node_modules'), join(folder, 'node_modules'));
  });
});

describe('the command as installed, without sources', () => {
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'nanoflow-bin-'));
    cpSync(join(repository, 'bin'), join(folder, 'bin'), { recursive: true });
    write('package.json', '{ "type": "module" }');
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test('says how to repair a package without bundles', async () => {
    const { code, stderr } = await run('bin/nanoflow.js');
    expect(code).toBe(1);
    expect(stderr).toMatch(/^nanoflow: .*cli\.js is missing: reinstall the package\n$/);
  });

  test('runs the bundle, also through a link as npm makes it', async () => {
    write('dist/node/cli.js', 'console.log(process.argv[2]);');
    symlinkSync(join(folder, 'bin/nanoflow.js'), join(folder, 'nanoflow'));
    expect((await run('bin/nanoflow.js', ['hello'])).stdout).toBe('hello\n');
    expect(execFileSync(join(folder, 'nanoflow'), ['linked'], { encoding: 'utf8' })).toBe('linked\n');
  });

  test.each([
    ['18.20.4', false],
    ['20.18.3', false],
    ['20.19.0', true],
    ['22.0.0', true],
  ])('Node %s: runs is %s', async (version, runs) => {
    write('dist/node/cli.js', `console.log('ran');`);
    write(
      'version.cjs',
      `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '${version}' } });`,
    );
    const { code, stdout, stderr } = await run('bin/nanoflow.js', [], {
      NODE_OPTIONS: `--require ${join(folder, 'version.cjs')}`,
    });
    expect([code, stdout]).toEqual(runs ? [0, 'ran\n'] : [1, '']);
    if (!runs)
      expect(stderr).toBe(
        `nanoflow: this is Node ${version}, but 20.19 or later is needed: https://nodejs.org\n`,
      );
  });
});
