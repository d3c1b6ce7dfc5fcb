/**
 * The two bundles and the test rings.
 *
 * - `vite build --mode node`: the command and its worker threads -> dist/node/ (ESM for Node 20+, npm packages
 *   stay outside). Chunks lie flat beside the entries, so `new URL('./engineWorker.js', import.meta.url)`
 *   names the worker from any of them.
 * - `vite build --mode app`: the page and its Web Workers -> dist/app/.
 * - `vitest`: the rings, named by what they need.
 *
 * The root is the repository in every mode, so `import.meta.glob('/shaders/**')` means the same in all of them.
 */
import { fileURLToPath } from 'node:url';
import type { Plugin, UserConfig } from 'vite';
import { defineConfig } from 'vitest/config';
import { nodeVersionTarget, rings } from './test/setup/rings.ts';

const root = fileURLToPath(new URL('.', import.meta.url));

/** Puts the page at the top of dist/app/ although its source is in src/ui/. */
function pageAtTop(): Plugin {
  const source = 'src/ui/index.html';
  return {
    name: 'nanoflow:page-at-top',
    enforce: 'post',
    generateBundle: {
      order: 'post',
      handler(_options, bundle) {
        const page = bundle[source];
        if (page?.type !== 'asset') return;
        delete bundle[source];
        // Vite wrote the page's links relative to src/ui/; from the top they are two folders nearer.
        const html = String(page.source).replaceAll('../../', './');
        this.emitFile({ type: 'asset', fileName: 'index.html', source: html });
      },
    },
  };
}

const nodeBundle: UserConfig = {
  root,
  logLevel: 'warn',
  publicDir: false,
  build: {
    ssr: true,
    target: nodeVersionTarget,
    outDir: 'dist/node',
    emptyOutDir: true,
    minify: false,
    copyPublicDir: false,
    rolldownOptions: {
      input: {
        cli: 'src/cli/main.ts',
        engineWorker: 'src/worker/node/engineWorker.ts',
        textWorker: 'src/worker/node/textWorker.ts',
      },
      output: { entryFileNames: '[name].js', chunkFileNames: '[name]-[hash].js' },
    },
  },
};

const appBundle: UserConfig = {
  root,
  logLevel: 'warn',
  base: './',
  publicDir: false,
  plugins: [pageAtTop()],
  worker: { format: 'es' },
  build: {
    target: 'es2023',
    outDir: 'dist/app',
    emptyOutDir: true,
    assetsDir: 'assets',
    rolldownOptions: { input: 'src/ui/index.html' },
  },
};

export default defineConfig(({ mode }) => {
  if (mode === 'node') return nodeBundle;
  if (mode !== 'test') return appBundle;
  return { root, publicDir: false, test: rings };
});
