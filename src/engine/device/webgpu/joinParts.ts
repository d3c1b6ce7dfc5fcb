/** The launches of a joined call's parts, made to agree on the size of a workgroup and on workgroup memory. */
import type { DeviceTarget } from '../../device.ts';
import type { JoinedCall, KernelCall } from '../../kernels/calls.ts';
import type { Launch } from '../../kernels/definition.ts';
import { joinLaunches, type JoinedLaunch } from './join.ts';
import { joinedWorkgroupBytes } from './joinModule.ts';

/** Either one dispatch, or the parts' own launches and why they run one after the other. */
export type JoinedParts = { joined: JoinedLaunch } | { reason: string; launches: Launch[][] };

export function joinParts(
  { parts, layout }: JoinedCall,
  target: DeviceTarget,
  launchesOf: (part: KernelCall, target: DeviceTarget) => Launch[],
): JoinedParts {
  const plain = parts.map((part) => launchesOf(part, target));
  const apart = (reason: string): JoinedParts => ({ reason, launches: plain });
  const many = plain.findIndex((launches) => launches.length !== 1);
  if (many >= 0) return apart(`${parts[many].kernel} takes ${plain[many].length} dispatches`);
  const first = leader(plain.map(([launch]) => launch));
  const size = Number(plain[first][0].defines.WORKGROUP_SIZE);
  const wanted = parts.map((part, index) =>
    plain[index][0].defines.WORKGROUP_SIZE === size ? part : { ...part, invocations: size },
  );
  const launches = wanted.map((part, index) =>
    part === parts[index] ? plain[index][0] : launchesOf(part, target)[0],
  );
  let result = joinLaunches(launches, target, layout);
  if ('excess' in result && result.excess !== undefined) {
    const part = heaviest(launches, first);
    if (part !== undefined) {
      const own = joinedWorkgroupBytes([launches[part]]);
      const limits = { ...target.limits, maxWorkgroupBytes: Math.max(0, own - result.excess) };
      launches[part] = launchesOf(wanted[part], { ...target, limits })[0];
      result = joinLaunches(launches, target, layout);
    }
  }
  return 'joined' in result ? result : apart(result.reason);
}

/** The part that the others follow: GEMM kernels cannot change their size; without one, the largest workgroup. */
function leader(launches: readonly Launch[]): number {
  const dynamic = launches.findIndex((launch) => launch.dynamic);
  if (dynamic >= 0) return dynamic;
  const gemm = launches.findIndex(({ shader }) => shader.startsWith('gemm'));
  if (gemm >= 0) return gemm;
  const sizes = launches.map(({ defines }) => Number(defines.WORKGROUP_SIZE));
  return sizes.indexOf(Math.max(...sizes));
}

/** The part without which most workgroup memory were saved, the leader aside. */
function heaviest(launches: readonly Launch[], first: number): number | undefined {
  const rest = launches.map((_, part) => joinedWorkgroupBytes(launches.filter((_, other) => other !== part)));
  const others = launches.map((_, part) => part).filter((part) => part !== first);
  return others.length === 0 ? undefined : others.reduce((a, b) => (rest[b] < rest[a] ? b : a));
}
