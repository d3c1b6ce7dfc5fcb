/**
 * Makes one file of the conformance suite, dist/tests/device.mjs, and one of the parity tests, dist/tests/parity.mjs,
 * for machines without npm: `NANOFLOW_TEST_DEVICE=cuda node dist/tests/device.mjs [text in test names...]`. Both print
 * every failure and then "N passed, N failed, N skipped". On WebGPU they need the `webgpu` package beside them.
 */
import { fileURLToPath } from 'node:url';
import { build } from 'vite';

const root = fileURLToPath(new URL('..', import.meta.url));
for (const name of ['device', 'parity']) {
  await build({
    root,
    configFile: false,
    logLevel: 'warn',
    publicDir: false,
    resolve: {
      alias: [
        {
          find: /^vitest$/,
          replacement: fileURLToPath(new URL('../test/setup/miniVitest.ts', import.meta.url)),
        },
      ],
    },
    ssr: { noExternal: true, external: ['webgpu', 'highs'] },
    build: {
      ssr: `test/setup/${name}Main.ts`,
      target: 'node20',
      outDir: 'dist/tests',
      emptyOutDir: false,
      minify: false,
      rolldownOptions: {
        external: ['webgpu', 'highs'],
        output: { entryFileNames: `${name}.mjs`, codeSplitting: false },
      },
    },
  });
  console.log(`built dist/tests/${name}.mjs`);
}
