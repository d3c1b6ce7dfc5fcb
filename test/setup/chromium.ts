/**
 * A real Chromium with WebGPU for tests. Its adapter is SwiftShader, which is part of Chromium: subgroups of 4,
 * no shader-f16, at most 256 invocations a workgroup.
 */
import { chromium, type Browser } from 'playwright-core';
import { findChromium } from '../../scripts/lib/needs.js';

const quiet = [
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/**
 * Starts a headless Chromium.
 * @param options.webgpu false starts one whose `requestAdapter()` answers null, for the page's error path
 * @throws when no Chromium is installed; `npm test` installs one
 */
export async function launchChromium({ webgpu = true } = {}): Promise<Browser> {
  const executablePath = await findChromium();
  if (!executablePath) throw new Error('no Chromium found; `npm test` installs one (scripts/setup-test.sh)');
  // Without the sandbox because tests run as root, too. Without both flags there is no adapter on a machine without a GPU.
  const gpu = webgpu ? ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'] : [];
  return chromium.launch({
    executablePath,
    headless: true,
    args: ['--headless=new', '--no-sandbox', ...quiet, ...gpu],
  });
}
