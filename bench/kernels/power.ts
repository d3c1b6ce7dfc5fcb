/**
 * `nanoflow bench power`: what the parts of a layer of Llama-3-8B cost in energy on the cuda device, each repeated until
 * its clock has settled. A GPU at its limit of power is as fast as its joules allow, so an order of work that saves time
 * and costs energy gains less than its time (docs/log.md, "overlap at the limit of power").
 */
import type { CompiledProgram } from '../../src/engine/device.ts';
import type { CudaDevice } from '../../src/engine/device/cuda/cudaDevice.ts';
import type { AttentionCall } from '../../src/engine/kernels/calls.ts';
import { repeatFor } from '../../src/engine/search/measure.ts';
import { PowerMeter, type PowerReading } from '../serving/powerMeter.ts';
import { Buffers } from './buffers.ts';
import { attentionCall, type AttentionRequest } from './cudaAttention.ts';
import { LLAMA_8B, openCuda, Products, readLaunch } from './cudaSetup.ts';

export interface PowerOptions {
  /** Rows of the products. */
  rows?: readonly number[];
  print: (line: string) => void;
}

interface PowerRow {
  part: string;
  microseconds: number;
  power?: PowerReading;
  millijoules?: number;
}

const DECODE: readonly AttentionRequest[] = Array.from({ length: 344 }, () => ({ qLen: 1, kvLen: 1280 }));
const PROMPT: readonly AttentionRequest[] = [{ qLen: 680, kvLen: 680 }];
/** CTAs of decode attention beside products. */
const FEW_CTAS = [32, 30];
/** How long a part is repeated before it is read, and while. */
const SETTLE_MS = 350;
const READ_MS = 650;
/** Runs of a part in one program. */
const ATTENTIONS = 10;
const PRODUCTS = 40;

export async function runPower({ rows: counts = [1024, 512], print }: PowerOptions) {
  const device = await openCuda();
  print(device.target.name);
  const rows: PowerRow[] = [];
  const measure = async (part: string, program: CompiledProgram, times: number): Promise<void> => {
    const row = await settled(device, part, program, times);
    program.destroy();
    rows.push(row);
    print(format(row));
  };
  await attentionParts(device, measure);
  for (const shape of LLAMA_8B) {
    const products = new Products(device, shape, Math.max(...counts));
    for (const count of counts) {
      const each = products.calls(count);
      const calls = Array.from({ length: Math.ceil(PRODUCTS / each.length) }, () => each).flat();
      await measure(`${shape.name}, ${count} rows`, await device.compile(shape.name, calls), calls.length);
    }
    products.free();
  }
  device.destroy();
  return { device: { kind: 'cuda', name: device.target.name }, rows };
}

type Measure = (part: string, program: CompiledProgram, times: number) => Promise<void>;

/** Decode attention beside a plain read of as many bytes, and that of a prompt. */
async function attentionParts(device: CudaDevice, measure: Measure): Promise<void> {
  const { multiprocessors } = device.target.cuda;
  const buffers = new Buffers(device, 11);
  const repeated = <T>(one: T): T[] => Array.from({ length: ATTENTIONS }, () => one);
  let bytes = 0;
  for (const ctas of [multiprocessors, ...FEW_CTAS]) {
    const call = attentionCall(device, buffers, DECODE, ctas);
    bytes = 2 * call.kCache.shape.reduce((a, b) => a * b) * 2; // K and V
    const part: AttentionCall = { ...call, tile: 16, both: false };
    const program = await device.compile('decode', repeated(part));
    await measure(`decode attention, ${ctas} CTAs`, program, ATTENTIONS);
  }
  const data = buffers.random('data', 'f32', [bytes / 4]);
  const launch = readLaunch(data, buffers.make('out', 'u32', [4]), multiprocessors * 8);
  const read = await device.compileLaunches('read', [[{ label: 'read', launches: repeated(launch) }]]);
  await measure(`plain read of ${(bytes / 1e9).toFixed(2)} GB`, read, ATTENTIONS);
  const call = attentionCall(device, buffers, PROMPT, multiprocessors);
  const part: AttentionCall = { ...call, tile: 128, both: false };
  const program = await device.compile('prompt', repeated(part));
  await measure('attention of 680 prompt tokens', program, ATTENTIONS);
  buffers.free();
}

async function settled(
  device: CudaDevice,
  part: string,
  program: CompiledProgram,
  times: number,
): Promise<PowerRow> {
  const meter = new PowerMeter();
  const repeat = (milliseconds: number) => repeatFor(device, milliseconds, () => device.submit(program));
  await repeat(SETTLE_MS);
  meter.restart();
  const microseconds = (1000 * (await repeat(READ_MS))) / times;
  const power = meter.read();
  meter.stop();
  return { part, microseconds, ...(power && { power, millijoules: (power.watts * microseconds) / 1000 }) };
}

function format({ part, microseconds, power, millijoules }: PowerRow): string {
  const reading =
    power && millijoules !== undefined
      ? `${power.watts.toFixed(0).padStart(5)} W ${power.megahertz.toFixed(0).padStart(5)} MHz ${millijoules.toFixed(1).padStart(7)} mJ`
      : '  power not readable (nvidia-smi)';
  return `${part.padEnd(32)} ${microseconds.toFixed(1).padStart(8)} us ${reading}`;
}
