/**
 * The benches as a program of their own, for machines without npm (scripts/bundle-bench.js makes one file of it):
 *   node bench.mjs kernels [filter]
 *   node bench.mjs attention-plan [trace.csv ...]
 *   node bench.mjs join-pairs [rows] [requests] [context]
 *   node bench.mjs decode <shape> <streams,...> [prompt tokens] [output tokens]
 */
import { runAttentionPlanBench } from './kernels/attentionPlan.ts';
import { runKernelBench } from './kernels/index.ts';
import { runJoinPairs } from './kernels/joinPairs.ts';
import { runDecodeBench } from './serving/index.ts';

const [what, ...args] = process.argv.slice(2);
const print = (line: string): void => console.log(line);
let result: object;
if (what === 'kernels') {
  result = await runKernelBench({ device: 'webgpu', filter: args[0], print });
} else if (what === 'attention-plan') {
  result = await runAttentionPlanBench({ device: 'webgpu', traces: args, print });
} else if (what === 'join-pairs') {
  const [rows, requests, context] = args.map(Number);
  result = await runJoinPairs({ device: 'webgpu', rows, requests, context, print });
} else if (what === 'decode') {
  const [shape, streams, promptTokens = '128', outputTokens = '128'] = args;
  result = await runDecodeBench({
    device: 'webgpu',
    shape,
    streams: streams.split(',').map(Number),
    promptTokens: Number(promptTokens),
    outputTokens: Number(outputTokens),
    runs: 3,
    print,
  });
} else {
  throw new Error(`'${what}' is no bench; expected kernels, attention-plan, join-pairs or decode`);
}
if (process.env.OUT_FILE) {
  const { writeFileSync } = await import('node:fs');
  writeFileSync(process.env.OUT_FILE, `${JSON.stringify(result, null, 2)}\n`);
}
process.exit(0); // dawn-node keeps the process alive as long as its GPU object is referenced
