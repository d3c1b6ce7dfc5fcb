/** The lines that say what is served, where it computes, and why there. */
import { cpus } from 'node:os';
import type { EngineInfo } from '../protocol.ts';
import { formatBytes } from './progress.ts';

export function formatCount(count: number): string {
  if (count >= 1e9) return `${(count / 1e9).toFixed(2)} G`;
  if (count >= 1e6) return `${(count / 1e6).toFixed(2)} M`;
  return count >= 1e3 ? `${(count / 1e3).toFixed(1)} k` : String(count);
}

/** Names of drivers hold commas and brackets; "webgpu (llvmpipe ...)" but not "cpu (cpu)". */
export function deviceName({ kind, name }: { kind: string; name: string }): string {
  return name === kind || name === '' ? kind : `${kind} (${name})`;
}

/** One line per fact, labels in a column. */
export function describeEngine(info: EngineInfo): string[] {
  const { device, model, kv } = info;
  const rejected = device.rejected.map((other) => `         not ${other.name}: ${other.reason}`);
  const tokens = kv.pages * kv.pageSize;
  return [
    `device   ${deviceName(device)}: ${device.reason}`,
    ...rejected,
    ...(device.hint ? [`         ${device.hint}`] : []),
    `model    ${model.name} (${model.architecture}, ${formatCount(model.parameters)} parameters, ${model.storage}, ${formatBytes(model.weightBytes)}), context ${model.maxModelLen} tokens`,
    `kv       ${kv.pages} pages of ${kv.pageSize} tokens (${tokens} tokens, ${formatBytes(kv.bytes)})`,
    `batch    up to ${info.maxBatchTokens} tokens and ${info.maxRequests} requests a step; loaded in ${info.loadSeconds.toFixed(1)} s`,
  ];
}

/** What a saved figure needs to be repeated: machine and software. */
export function describeMachine(): { cpu: string; cores: number; node: string; platform: string } {
  const cores = cpus();
  return {
    cpu: cores[0]?.model.trim() ?? 'unknown',
    cores: cores.length,
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
  };
}
