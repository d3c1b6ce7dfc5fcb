/** Prints the description of the WebGPU adapter that Dawn offers here and succeeds, or fails when it offers none. */
import { create, globals } from 'webgpu';

Object.assign(globalThis, globals);
// Referenced as long as the process runs: Dawn aborts when its root object is collected.
const gpu = create([]);
const adapter = await gpu.requestAdapter();
if (adapter) {
  const { vendor, architecture, description } = adapter.info;
  console.log(description || `${vendor} ${architecture}`);
}
process.exit(adapter ? 0 : 1);
