/**
 * The benches as a program of their own, for machines without npm (scripts/bundle-bench.js makes one file of it):
 *   node bench.mjs kernels [filter]
 *   node bench.mjs attention-plan [trace.csv ...]
 *   node bench.mjs attention-matrix [check | time]
 *   node bench.mjs join-pairs [rows] [requests] [context] [no-subgroups]
 *   node bench.mjs decode <shape> <streams,...> [prompt tokens] [output tokens]
 *   node bench.mjs ablation ['{"model": "llama-3-8b", "layers": 4, "decode": 512}']   (options of the command, as JSON)
 *   node bench.mjs search <shape> <layers> <mixes>   (mixes: 512x1024+512,... = decode x context + prefill)
 *   node bench.mjs gemm-peers [filter] [rows,...]
 *   node bench.mjs attention-peers
 *   node bench.mjs interference [rows]
 *   node bench.mjs power [rows,...]
 *   node bench.mjs offline ['{"layers": 4, "seconds": 5}']   (options of the command, as JSON)
 *   node bench.mjs overlap ['{"layers": 32, "mix": "344x1280+680"}']   (options of the command, as JSON)
 *   node bench.mjs load [shape] [layers]
 *   node bench.mjs host-time
 *   node bench.mjs fidelity
 * Environment: DEVICE (webgpu, cuda), OUT_FILE (figures), TRACE_FILE (a trace), FIGURE_FILE (the ablation's figure).
 */
import { writeFileSync } from 'node:fs';
import { runAttentionMatrix } from './kernels/attentionMatrix.ts';
import { runAttentionPlanBench } from './kernels/attentionPlan.ts';
import { runAttentionPeers } from './kernels/cudaAttention.ts';
import { runGemmPeers } from './kernels/cudaGemm.ts';
import { runInterference } from './kernels/interference.ts';
import { runKernelBench } from './kernels/index.ts';
import { runJoinPairs } from './kernels/joinPairs.ts';
import { runPower } from './kernels/power.ts';
import { runAblationBench } from './serving/ablation.ts';
import { runHostTimeBench } from './serving/hostTime.ts';
import { runLoadBench } from './serving/loadTime.ts';
import { runOfflineBench } from './serving/offline.ts';
import { runOverlapBench } from './serving/overlapBench.ts';
import { runDecodeBench } from './serving/index.ts';
import { runSearchBench } from './serving/search.ts';
import { runFidelityBench } from './sim/fidelity.ts';

const [what, ...args] = process.argv.slice(2);
const { OUT_FILE, TRACE_FILE: trace, FIGURE_FILE } = process.env;
const common = {
  device: (process.env.DEVICE ?? 'webgpu') as 'cuda' | 'webgpu',
  trace,
  print: (line: string): void => console.log(line),
};

const benches: Record<string, () => Promise<object>> = {
  kernels: () => runKernelBench({ ...common, filter: args[0] }),
  'attention-plan': () => runAttentionPlanBench({ ...common, traces: args }),
  'attention-matrix': () => runAttentionMatrix({ ...common, only: args[0] }),
  'join-pairs': () => {
    const [rows, requests, context] = args.map(Number);
    return runJoinPairs({ ...common, rows, requests, context, noSubgroups: args[3] === 'no-subgroups' });
  },
  decode: () => {
    const [shape, streams, promptTokens = '128', outputTokens = '128'] = args;
    return runDecodeBench({
      ...common,
      shape,
      streams: streams.split(',').map(Number),
      promptTokens: Number(promptTokens),
      outputTokens: Number(outputTokens),
      runs: 3,
    });
  },
  ablation: async () => {
    const options = JSON.parse(args[0] ?? '{}') as object;
    const { figure, ...result } = await runAblationBench({ ...common, rounds: 7, ...options });
    if (FIGURE_FILE) writeFileSync(FIGURE_FILE, figure);
    return result;
  },
  search: () => {
    const [model, layers, mixes] = args;
    return runSearchBench({ ...common, model, layers: Number(layers), mixes, quick: true });
  },
  'attention-peers': () => runAttentionPeers(common),
  'gemm-peers': () =>
    runGemmPeers({ ...common, filter: args[0], rows: args[1] ? args[1].split(',').map(Number) : undefined }),
  interference: () => runInterference({ ...common, rows: args[0] ? Number(args[0]) : undefined }),
  power: () => runPower({ ...common, rows: args[0] ? args[0].split(',').map(Number) : undefined }),
  offline: () =>
    runOfflineBench({
      ...common,
      shape: 'llama-3-8b',
      promptTokens: 1024,
      outputTokens: 512,
      seconds: 15,
      warmSeconds: 3,
      ...(JSON.parse(args[0] ?? '{}') as object),
    }),
  overlap: () => runOverlapBench({ ...common, ...(JSON.parse(args[0] ?? '{}') as object) }),
  load: () =>
    runLoadBench({
      ...common,
      shape: args[0] ?? 'llama-3-8b',
      layers: args[1] ? Number(args[1]) : undefined,
    }),
  'host-time': () => runHostTimeBench(common),
  fidelity: () => runFidelityBench(common),
};

if (!Object.hasOwn(benches, what))
  throw new Error(`'${what}' is no bench; expected ${Object.keys(benches).join(', ')}`);
const result = await benches[what]();
if (OUT_FILE) writeFileSync(OUT_FILE, `${JSON.stringify(result, null, 2)}\n`);
process.exit(0); // dawn-node keeps the process alive as long as its GPU object is referenced
