/**
 * The chat page in a real Chromium: both places that can answer, stop, and the errors that have names. The page comes
 * from a real server with the embedded model; "this browser" runs the engine on Chromium's own WebGPU adapter.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startServer, type Server } from '../../src/server/main.ts';
import { createNodeClient, embeddedModel, packageRoot } from '../../src/worker/node/client.ts';
import type { EngineClient } from '../../src/worker/client.ts';
import { launchChromium } from '../setup/chromium.ts';

const SHOTS = join(packageRoot(), 'test-results', 'screenshots');

let browser: Browser;
let client: EngineClient;
let server: Server;

beforeAll(async () => {
  mkdirSync(SHOTS, { recursive: true });
  const load = { model: { kind: 'directory' as const, path: embeddedModel() }, device: 'cpu' as const };
  [browser, client] = await Promise.all([launchChromium(), createNodeClient({ ...load, maxModelLen: 512 })]);
  server = await startServer({
    client,
    version: 'test',
    host: '127.0.0.1',
    port: 0,
    pageDirectory: join(packageRoot(), 'dist', 'app'),
    modelDirectory: embeddedModel(),
  });
});

afterAll(async () => {
  await browser?.close();
  await server?.stop(0);
  await client?.dispose();
});

/** Opens the page as a new visitor who picked `place` before. */
async function open(place: 'browser' | 'server', query = '', from = browser): Promise<Page> {
  const context = await from.newContext({ viewport: { width: 900, height: 700 } });
  await context.addInitScript((value) => localStorage.setItem('nanoflow.place', value), place);
  const page = await context.newPage();
  await page.goto(`${server.url}/${query}`);
  return page;
}

const send = async (page: Page, text: string): Promise<void> => {
  await page.getByLabel('Message').fill(text);
  await page.getByRole('button', { name: 'Send' }).click();
};
const answer = (page: Page) => page.getByRole('article', { name: 'Model' }).last();
/** The header names the model and the device once the engine is there. */
const loaded = (page: Page) =>
  page
    .getByRole('status')
    .filter({ hasText: /M parameters.*swiftshader/i })
    .waitFor({ timeout: 120_000 });
const finished = (page: Page) => page.getByRole('button', { name: 'Send' }).waitFor({ timeout: 90_000 });

describe('chat page', () => {
  it('answers from this server, token by token, and remembers the conversation', async () => {
    const page = await open('server');
    await page.getByText('M parameters').waitFor();
    await page.screenshot({ path: join(SHOTS, 'chat-hello.png') });
    await send(page, 'Hi, who are you?');
    await finished(page);
    expect((await answer(page).innerText()).length).toBeGreaterThan(10);
    expect(await page.locator('.stats').last().innerText()).toMatch(
      /^\d+ tokens? · [\d.]+ tokens\/s · first after/,
    );
    await send(page, 'What is a KV cache?');
    await finished(page);
    expect(await page.getByRole('article').count()).toBe(4);
    await page.screenshot({ path: join(SHOTS, 'chat-server.png') });
    await page.context().close();
  });

  it('answers from this browser on WebGPU with the same greedy text as the server', async () => {
    const page = await open('browser');
    await loaded(page);
    const question = 'What is continuous batching?';
    await send(page, question);
    await finished(page);
    const inBrowser = await answer(page).innerText();
    await page.screenshot({ path: join(SHOTS, 'chat-browser.png') });
    await page.context().close();

    const { tokenIds } = await client.encodeChat([{ role: 'user', content: question }]);
    const sampling = { temperature: 0, topK: 0, topP: 1, minP: 0, presencePenalty: 0, frequencyPenalty: 0 };
    const events = await client.generate({
      promptTokenIds: tokenIds,
      sampling: { ...sampling, repetitionPenalty: 1, logitBias: [] },
      stop: { maxTokens: 256, minTokens: 0, ignoreEos: false, stopStrings: [], stopTokenIds: [] },
    });
    let onServer = '';
    for await (const event of events) if (event.type === 'tokens') onServer += event.text;
    expect(inBrowser.trim()).toBe(onServer.trim());
  });

  it('stops an answer, keeps what was written, and frees its pages', async () => {
    const page = await open('server');
    await page.getByText('M parameters').waitFor();
    await send(page, 'Tell me a long story about a dragon and a bird.');
    await expect.poll(async () => (await answer(page).innerText()).trim().length).toBeGreaterThan(5);
    await page.getByRole('button', { name: 'Stop' }).click();
    await finished(page);
    expect((await answer(page).innerText()).length).toBeGreaterThan(5);
    expect(await page.locator('.stats').last().innerText()).toContain('stopped');
    await expect.poll(async () => (await client.stats()).kvPagesUsed).toBe(0);
    await page.context().close();
  });

  it('names a missing model', async () => {
    const page = await open('browser', '?model=/models/nothing');
    await page.getByText('The model was not found').waitFor({ timeout: 30_000 });
    await page.screenshot({ path: join(SHOTS, 'chat-no-model.png') });
    await page.context().close();
  });

  it('names a browser without WebGPU', async () => {
    const plain = await launchChromium({ webgpu: false });
    try {
      const page = await open('browser', '', plain);
      await page.getByText('This browser has no WebGPU adapter').waitFor({ timeout: 30_000 });
    } finally {
      await plain.close();
    }
  });

  it.each(['while it is loading', 'when it is loaded'])(
    'names a device lost %s, and loads again',
    async (when) => {
      const context = await browser.newContext();
      await context.addInitScript(() => localStorage.setItem('nanoflow.place', 'browser'));
      const page = await context.newPage();
      // Destroying the device in the worker is what a driver reset does to it. The worker's first request (the page has
      // sent one before) waits until the test holds the device that it is going to open.
      let hold = (): void => {};
      const held = new Promise<void>((resolve) => (hold = resolve));
      let requests = 0;
      await page.route('**/models/**/config.json', async (route) => {
        if (requests++ > 0) await held;
        await route.continue();
      });
      const started = page.waitForEvent('worker', (worker) => worker.url().includes('engineWorker'));
      await page.goto(server.url);
      const worker = await started;
      await worker.evaluate(() => {
        const request = GPUAdapter.prototype.requestDevice;
        GPUAdapter.prototype.requestDevice = async function (descriptor) {
          const device = await request.call(this, descriptor);
          (globalThis as unknown as { device: GPUDevice }).device = device;
          return device;
        };
      });
      hold();
      const loading = when === 'while it is loading';
      if (loading) await page.getByText('Compiling kernels').waitFor({ timeout: 60_000 });
      else await loaded(page);
      await worker.evaluate(() => (globalThis as unknown as { device: GPUDevice }).device.destroy());
      if (!loading) await send(page, 'Hello?');
      await page.getByText('The GPU device was lost').waitFor({ timeout: 30_000 });
      await page.screenshot({ path: join(SHOTS, 'chat-lost.png') });
      await page.getByRole('button', { name: 'Try again' }).click();
      await loaded(page);
      await context.close();
    },
  );

  it('names a server that is gone', async () => {
    const page = await open('server');
    await page.getByText('M parameters').waitFor();
    await page.route('**/v1/chat/completions', (route) => route.abort());
    await send(page, 'Hello?');
    await page.getByText('The server does not answer').waitFor();
    await page.context().close();
  });
});
