/** Published shapes by name, as the cost model sees them. */
import { parseModelConfig } from '../../src/engine/model/config.ts';
import type { GraphModel } from '../../src/engine/model/graph.ts';
import { graphModelOf } from '../../src/engine/model/graph/build.ts';
import { SHAPES } from './randomModel.ts';

/** @throws Error that lists the shapes there are */
export function shapeModel(name: string): GraphModel {
  const json = SHAPES[name];
  if (!json) throw new Error(`no shape '${name}'; there are ${Object.keys(SHAPES).join(', ')}`);
  return graphModelOf(parseModelConfig(JSON.parse(JSON.stringify(json))), name);
}
