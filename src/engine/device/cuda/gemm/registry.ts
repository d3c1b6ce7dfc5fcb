/**
 * The GEMM backends of the cuda device, and which one carries out a product. Pure: who is asked for, what was tuned, and
 * priorities decide, so the choice can be printed and tested.
 *
 * A backend says first whether the machine has what it needs, then whether it can do the call at hand, each with a reason
 * when not. The first that can, by priority, is taken.
 */
import type { GemmCall } from '../../../kernels/calls.ts';
import type { AotShapes, CudaLaunch, CudaModule, CudaTarget } from '../launch.ts';
import { tunedChoice, type TunedTable } from './table.ts';

export interface GemmBackend {
  readonly name: string;
  /** Higher is asked first. */
  readonly priority: number;
  /** Why this machine cannot use it; undefined when it can. */
  isSupported(target: CudaTarget): string | undefined;
  /** Why it cannot do this call; undefined when it can. */
  canImplement(call: GemmCall, target: CudaTarget): string | undefined;
  /** Its ways to do the call, for the autotuner; the first is what `launches` takes by itself. */
  tactics(call: GemmCall, target: CudaTarget): readonly string[];
  /** @param tactic one of tactics(); default the analytic choice */
  launches(call: GemmCall, target: CudaTarget, tactic?: string): CudaLaunch[];
  /** Its kernels that are built ahead of time. */
  prebuilt(family: CudaTarget['cuda']['family'], also?: AotShapes): readonly CudaModule[];
}

/** What decides besides shapes: part of the target (CudaTarget.cuda.gemm). */
export interface GemmPolicy {
  /** Asked before all others, where it can do the call (--gemm-backend). */
  backend?: string;
  table?: TunedTable;
}

export interface GemmChoice {
  backend: GemmBackend;
  tactic?: string;
  why: 'asked for' | 'tuned' | 'priority';
}

/**
 * @throws Error for a call that names a backend which cannot do it, or that no backend can do: with every reason.
 */
export function chooseBackend(
  backends: readonly GemmBackend[],
  call: GemmCall,
  target: CudaTarget,
): GemmChoice {
  const reasons: string[] = [];
  const usable = (backend: GemmBackend): boolean => {
    const reason = backend.isSupported(target) ?? backend.canImplement(call, target);
    if (reason !== undefined) reasons.push(`${backend.name}: ${reason}`);
    return reason === undefined;
  };
  const named = (name: string): GemmBackend => {
    const found = backends.find((backend) => backend.name === name);
    if (found) return found;
    throw new Error(
      `gemm "${call.label}": no backend "${name}"; there are ${backends.map((backend) => backend.name).join(', ')}`,
    );
  };
  if (call.backend !== undefined) {
    const [name, tactic] = splitTactic(call.backend);
    const backend = named(name);
    if (usable(backend)) return { backend, tactic, why: 'asked for' };
    throw new Error(`gemm "${call.label}": ${reasons.join('; ')}`);
  }
  const { backend: asked, table } = target.cuda.gemm ?? {};
  if (asked !== undefined && usable(named(asked))) return { backend: named(asked), why: 'asked for' };
  // What shares its cores was tuned alone, if at all.
  const tuned = table && !call.residency && tunedChoice(table, call);
  if (tuned && asked === undefined) {
    const backend = backends.find(({ name }) => name === tuned.backend);
    // A table of another version may name what is not there any more.
    if (backend && usable(backend) && backend.tactics(call, target).includes(tuned.tactic)) {
      return { backend, tactic: tuned.tactic, why: 'tuned' };
    }
  }
  for (const backend of byPriority(backends)) if (usable(backend)) return { backend, why: 'priority' };
  throw new Error(`gemm "${call.label}": no backend can do it (${[...new Set(reasons)].join('; ')})`);
}

/** "wgmma/128x256x64" names a backend and a tactic. */
export function splitTactic(text: string): [name: string, tactic?: string] {
  const at = text.indexOf('/');
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}

export function byPriority(backends: readonly GemmBackend[]): GemmBackend[] {
  return [...backends].sort((a, b) => b.priority - a.priority);
}

/** One line for the log: the backends in order, and why some are out. */
export function describeBackends(backends: readonly GemmBackend[], target: CudaTarget): string {
  const { backend: asked, table } = target.cuda.gemm ?? {};
  const parts = byPriority(backends).map((backend) => {
    const reason = backend.isSupported(target);
    return reason === undefined ? backend.name : `${backend.name} not (${reason})`;
  });
  const first = asked === undefined ? '' : `${asked} where it can, `;
  const tuned = table ? `; ${Object.keys(table.entries).length} tuned shapes` : '';
  return `matrix products: ${first}${parts.join(', ')}${tuned}`;
}
