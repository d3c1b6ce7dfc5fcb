/**
 * `nanoflow bench ablation`: one dense batch through the pipelines non-overlap, nano-batch-only and overlap, on the
 * simulator or a real device (NanoFlow, OSDI '25, section 6.4). Prints a table; gives rows, a figure and a trace.
 */
import { ablationFigure } from '../figures/ablation.ts';
import { formatTable } from '../../src/cli/table.ts';
import { ablateDevice } from './ablationDevice.ts';
import { ablateModel } from './ablationModel.ts';
import type { Ablation, AblationOptions } from './ablationTypes.ts';
import { saveTrace } from './traceFile.ts';

export interface AblationBench {
  device: { kind: string; name: string };
  model: string;
  unit: string;
  source: string;
  layers: number;
  ranks: number;
  batch: Ablation['batch'];
  rows: object[];
  figure: string; // SVG
}

export async function runAblationBench(options: AblationOptions): Promise<AblationBench> {
  const { print } = options;
  const { ablation, close } =
    options.device === 'sim'
      ? ablateModel(options)
      : await ablateDevice({ ...options, device: options.device });
  try {
    const { device, model, source, layers, ranks, batch, variants } = ablation;
    print(`${title(ablation)} (${source})`);
    print(subtitle(ablation));
    print('');
    for (const line of table(ablation)) print(line);
    if (options.trace !== undefined && ablation.trace)
      await saveTrace(options.trace, await ablation.trace(), print);
    const figure = ablationFigure({
      title: `Ablation: ${title(ablation)}`,
      subtitle: [subtitle(ablation), source],
      bars: variants.map((variant) => ({ name: variant.name, tokensPerSecond: rate(ablation, variant) })),
      timelines: variants
        .filter(({ layer }) => layer.length > 0)
        .map(({ name, layer }) => ({ title: name, spans: layer })),
    });
    const unit =
      'tokens per second: tokens of the dense batch over the time of one iteration, all GPUs together; times in ms';
    return { device, model, unit, source, layers, ranks, batch, rows: rows(ablation), figure };
  } finally {
    close?.();
  }
}

function title({ model, device, layers }: Ablation): string {
  return `${model}, ${layers} layers, on ${device.name}`;
}

function subtitle({ batch: { tokens, decodeTokens, context } }: Ablation): string {
  const prefill = tokens - decodeTokens;
  const rest = prefill > 0 ? `, ${prefill} of prompts` : '';
  return `dense batch of ${tokens} tokens: ${decodeTokens} decoding over ${context} KV tokens each${rest}`;
}

function rate({ batch }: Ablation, { secondsPerIteration }: { secondsPerIteration: number }): number {
  return batch.tokens / secondsPerIteration;
}

function rows(ablation: Ablation): object[] {
  const [base] = ablation.variants;
  return ablation.variants.map((variant) => {
    const { name, pipeline, secondsPerIteration, spread, busy } = variant;
    return {
      pipeline: name,
      milliseconds: secondsPerIteration * 1000,
      ...(spread ? { fastest: spread[0] * 1000, slowest: spread[1] * 1000 } : {}),
      tokensPerSecond: rate(ablation, variant),
      tokensPerSecondPerGpu: rate(ablation, variant) / ablation.ranks,
      gain: base.secondsPerIteration / secondsPerIteration,
      busyMilliseconds: Object.fromEntries(Object.entries(busy).map(([lane, s]) => [lane, s * 1000])),
      ...(pipeline ? { plan: pipeline } : {}),
    };
  });
}

function table(ablation: Ablation): string[] {
  const [base] = ablation.variants;
  const several = ablation.ranks > 1;
  const head = [
    'pipeline',
    'ms',
    'tok/s',
    ...(several ? ['per GPU'] : []),
    'gain',
    'compute',
    'memory',
    'network',
  ];
  const percent = (share: number): string => `${(share * 100).toFixed(1)} %`.padStart(7);
  const cells = ablation.variants.map((variant) => {
    const { name, secondsPerIteration, busy } = variant;
    const perSecond = rate(ablation, variant);
    return [
      name,
      Number((secondsPerIteration * 1000).toFixed(3)),
      Number(perSecond.toFixed(1)),
      ...(several ? [Number((perSecond / ablation.ranks).toFixed(1))] : []),
      `${(base.secondsPerIteration / secondsPerIteration).toFixed(3)}x`,
      ...(['compute', 'memory', 'network'] as const).map((lane) => percent(busy[lane] / secondsPerIteration)),
    ];
  });
  return formatTable(head, cells).trimEnd().split('\n');
}
