import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

const script = new URL('../../scripts/setup-test.sh', import.meta.url).pathname;
let folder: string;
beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), 'setup-test-'))));
afterEach(() => rmSync(folder, { recursive: true }));

/** The backports source that the script derives for bookworm from these apt source files. */
function derive(files: Record<string, string>): string {
  const paths = Object.entries(files).map(([name, text]) => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  });
  return execFileSync('sh', [script, '--print-backports', 'bookworm', ...paths], { encoding: 'utf8' }).trim();
}

describe('one-line format', () => {
  test.each([
    [
      'deb http://mirror.example/debian bookworm main',
      'deb http://mirror.example/debian bookworm-backports main',
    ],
    [
      'deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm contrib main non-free',
      'deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm-backports main',
    ],
    ['  deb\tfile:/srv/debian/\tbookworm\tmain', 'deb\tfile:/srv/debian/ bookworm-backports main'],
  ])('%s', (line, expected) => {
    const others = '# deb http://old.example bookworm main\ndeb-src http://src.example bookworm main\n';
    const security = 'deb http://security.example bookworm-security main\n';
    expect(derive({ 'sources.list': `${others}${security}${line}\n` })).toBe(expected);
  });
});

describe('deb822 format', () => {
  test('takes the stanza of the release and keeps its other fields', () => {
    const text = `# a comment
Types: deb
URIs: http://security.example/debian-security
Suites: bookworm-security
Components: main

Types: deb deb-src
# another comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBGPL0BUBEADmW5NdOOHwPIJlgPu6JDcKw/NZJPR8lsD3K87ZM18gzyQZJD+w
 -----END PGP PUBLIC KEY BLOCK-----
`;
    const derived = derive({ 'debian.sources': text });
    expect(derived).toMatch(/^Types: deb$/m);
    expect(derived).toMatch(/^Suites: bookworm-backports$/m);
    expect(derived).toMatch(/^Components: main$/m);
    expect(derived).toMatch(/^URIs: http:\/\/mirror\.example\/debian$/m);
    expect(derived).toContain(text.slice(text.indexOf('Signed-By:')).trim());
    expect(derived).not.toContain('security.example');
  });

  test('passes over disabled stanzas', () => {
    const stanza = (host: string, more = '') =>
      `${more}Types: deb\nURIs: http://${host}/\nSuites: bookworm\nComponents: main\n`;
    const derived = derive({
      'debian.sources': `${stanza('off.example', 'Enabled: no\n')}\n${stanza('on.example')}`,
    });
    expect(derived).toContain('http://on.example/');
    expect(derived).not.toContain('off.example');
  });
});

test('the suite may be called stable', () => {
  expect(derive({ 'sources.list': 'deb http://mirror.example/debian stable main\n' })).toBe(
    'deb http://mirror.example/debian bookworm-backports main',
  );
});

test('without a source for the release there is nothing to derive', () => {
  expect(derive({ 'sources.list': 'deb http://mirror.example/debian trixie main\n' })).toBe('');
});
