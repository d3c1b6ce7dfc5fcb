/**
 * Makes one file of the benches, dist/bench/bench.mjs, for machines without npm. It needs the `webgpu` package beside it
 * (node_modules/webgpu), or one that loads a dawn.node from elsewhere.
 */
import { fileURLToPath } from 'node:url';
import { build } from 'vite';

const root = fileURLToPath(new URL('..', import.meta.url));
await build({
  root,
  configFile: false,
  logLevel: 'warn',
  publicDir: false,
  ssr: { noExternal: true, external: ['webgpu', 'highs'] },
  build: {
    ssr: 'bench/main.ts',
    target: 'node20',
    outDir: 'dist/bench',
    emptyOutDir: true,
    minify: false,
    rolldownOptions: {
      external: ['webgpu', 'highs'],
      output: { entryFileNames: 'bench.mjs', codeSplitting: false },
    },
  },
});
console.log('built dist/bench/bench.mjs');
