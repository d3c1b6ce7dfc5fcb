/** Ticket counters of the matrix products in joined calls. */
import type { TensorView } from '../device.ts';
import type { GemmCall, KernelCall } from '../kernels/calls.ts';
import type { ProgramParts } from './program.ts';

/** Bytes from one ticket counter to the next: the alignment of a storage binding. */
export const TICKET_STRIDE = 256;

export interface TicketDealer {
  give(call: GemmCall): GemmCall;
  clearCall(parts: ProgramParts): KernelCall | undefined;
}

/** Hands every GEMM of a joined call a counter of its own, as long as there are some. */
export function ticketDealer(tickets: TensorView | undefined): TicketDealer {
  const most = tickets ? Math.floor((tickets.shape[0] * 4) / TICKET_STRIDE) : 0;
  let next = 0;
  return {
    give(call) {
      if (!tickets || next >= most) return call;
      const offset = tickets.offset + next++ * TICKET_STRIDE;
      return { ...call, tickets: { ...tickets, offset, shape: [1] } };
    },
    clearCall({ buffers, layout }) {
      if (!tickets || next === 0) return undefined;
      return { kernel: 'clear', label: 'tickets', meta: buffers.meta, layout, out: tickets };
    },
  };
}
