/**
 * Random valid pipelines, to hold devices to the plain order: random nested splits, random legal stages and order. One
 * device (no ranks). Equal seeds give equal pipelines.
 */
import type { Operation, OperationGraph, OperationName } from '../model/graph.ts';
import { withinBlocks, type BatchRows } from './arrangement.ts';
import { dependenciesOf, layerOperations, type Dependency, type NanoRange } from './dependencies.ts';
import type { Pipeline, Stage, StageMember } from './pipeline.ts';
import { groups } from './resolve.ts';
import { assemble, checkBatch, splitOperations } from './split.ts';
import { deal } from './stages.ts';

const MOST_OF_OPERATION = 4;
const MOST_ATTENTION = 8;
const MOST_RANGES = 24;
const MOST_MEMBERS = 4;
/** Activation sets are for nano-batches: rows that no nano-operation crosses. */
const MOST_NANO_BATCHES = 3;

/** Routing is of whole nano-batches: it sorts the rows of one by expert. */
const ROUTED: readonly OperationName[] = [
  'router',
  'route',
  'experts_up_gate',
  'activation',
  'experts_down',
  'combine',
];

/** @throws Error for a graph with ranks, or a batch that is not one. */
export function randomPipeline(
  graph: OperationGraph,
  batch: BatchRows,
  workgroups: number,
  seed: number,
): Pipeline {
  checkBatch(batch, workgroups);
  if (graph.options.ranks > 1) {
    throw new Error(
      `the graph is for ${graph.options.ranks} ranks; expected one: random pipelines are for a single device`,
    );
  }
  const random = generator(seed);
  const nano = randomSplits(graph, batch, random);
  const { stages, shares } = randomStages(graph, nano, workgroups, random);
  return assemble({
    name: `random-${seed}`,
    graph,
    batch,
    workgroups,
    nano,
    stages,
    shareOf: ({ id }) => shares.get(id)!,
    notes: { seed },
  });
}

/** The same batch in halves of any size, also with no rows of a kind. */
export function randomHalves({ tokens, decodeTokens }: BatchRows, seed: number): BatchRows {
  const random = generator(seed);
  const halves = { decode: random(decodeTokens + 1), prefill: random(tokens - decodeTokens + 1) };
  return { tokens, decodeTokens, halves };
}

/** A whole number in [0, below). */
type Random = (below: number) => number;

/** Mulberry32. */
function generator(seed: number): Random {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

/** Nano-batches, and further cuts of each operation inside them; fewer where the metadata's room would be exceeded. */
function randomSplits(graph: OperationGraph, batch: BatchRows, random: Random): NanoRange[] {
  const moe = graph.model.moe !== undefined;
  const borders = someRows(batch.tokens, random(MOST_NANO_BATCHES), random);
  if (batch.halves && borders.length > 0 && random(2) === 0)
    borders[0] = batch.halves.decode + batch.halves.prefill;
  // A few rows for all operations: otherwise hardly two of them would share a range.
  const pool = someRows(batch.tokens, 4, random);
  let further = random(3);
  for (;;) {
    const cutsOf = ({ name }: Operation): number[] => {
      if (moe && ROUTED.includes(name)) return borders;
      const more = pool.filter(() => random(4) < further);
      return [...borders, ...more].slice(0, MOST_OF_OPERATION - 1);
    };
    const nano = splitOperations(graph, batch, memo(cutsOf));
    if (fits(nano, batch) || further === 0) return nano;
    further--;
  }
}

function memo(cutsOf: (operation: Operation) => number[]): (operation: Operation) => number[] {
  const known = new Map<Operation, number[]>();
  return (operation) => {
    const cuts = known.get(operation) ?? cutsOf(operation);
    known.set(operation, cuts);
    return cuts;
  };
}

function someRows(tokens: number, count: number, random: Random): number[] {
  return tokens < 2 ? [] : Array.from({ length: count }, () => 1 + random(tokens - 1));
}

function fits(nano: readonly NanoRange[], batch: BatchRows): boolean {
  const { tokens } = batch;
  const attention = nano.filter(({ operation }) => operation.endsWith('_attention'));
  const own = nano.map(({ range }) => range);
  const sampled = batch.halves ? withinBlocks(batch, groups({ tokens, nano })) : [];
  const ranges = new Set([[0, tokens], ...own, ...sampled].map((range) => range.join()));
  return attention.length <= MOST_ATTENTION && ranges.size <= MOST_RANGES;
}

interface Instance {
  nano: NanoRange;
  after: Dependency[];
  layer: 0 | 1;
}

/**
 * A random order of one layer, cut at a random place into stages: the nano-operations before the cut belong to the
 * next layer (they run at the end of the stage list), as far as the dependencies of both allow.
 */
function randomStages(
  graph: OperationGraph,
  nano: readonly NanoRange[],
  workgroups: number,
  random: Random,
): { stages: Stage[]; shares: Map<string, number> } {
  const operations = layerOperations(graph);
  const left = new Map(nano.map((each) => [each.id, dependenciesOf(operations, nano, each)]));
  const ahead = randomAhead(nano, left, random);
  const instances = nano.map((each): Instance => ({
    nano: each,
    after: left.get(each.id)!,
    layer: ahead.has(each.id) ? 1 : 0,
  }));
  const layerOf = new Map(instances.map(({ nano: { id }, layer }) => [id, layer]));
  // Within one run of the list: what waits for a member of the same layer, or ahead for the layer that it leaves.
  const needs = new Map(
    instances.map(({ nano: { id }, after, layer }) => [
      id,
      after.filter((need) => layerOf.get(need.id)! - need.layer === layer).map((need) => need.id),
    ]),
  );
  const done = new Set<string>();
  const stages: Stage[] = [];
  const shares = new Map<string, number>();
  while (done.size < nano.length) {
    const ready = instances.filter(
      ({ nano: { id } }) => !done.has(id) && needs.get(id)!.every((need) => done.has(need)),
    );
    const count = Math.min(ready.length, workgroups, 1 + random(MOST_MEMBERS));
    const members: StageMember[] = [];
    while (members.length < count) {
      const [{ nano: taken, layer }] = ready.splice(random(ready.length), 1);
      members.push({ id: taken.id, layer });
    }
    const dealt = deal(
      members.map(() => 1 + random(8)),
      workgroups,
    );
    members.forEach(({ id }, i) => {
      // A stage need not use all of the device.
      shares.set(id, random(4) === 0 ? 1 + random(dealt[i]) : dealt[i]);
      done.add(id);
    });
    stages.push({ members });
  }
  return { stages, shares };
}

/**
 * Nano-operations that run a layer ahead: whatever they wait for within their layer is ahead too. Grown one by one from
 * those that wait for the layer before alone.
 */
function randomAhead(
  nano: readonly NanoRange[],
  after: ReadonlyMap<string, readonly Dependency[]>,
  random: Random,
): Set<string> {
  const ahead = new Set<string>();
  // Not all of them: then none would be left to be ahead of.
  for (let left = random(nano.length); left > 0; left--) {
    const next = nano.filter(
      ({ id }) => !ahead.has(id) && after.get(id)!.every((need) => need.layer === -1 || ahead.has(need.id)),
    );
    if (next.length === 0) break;
    ahead.add(next[random(next.length)].id);
  }
  return ahead;
}
