/**
 * Whether this node may send what it has to one caller, asked before each piece (I4): as the primary, or to the candidate that it promised to.
 *
 * A candidate takes from whoever has more than it, and that is mostly a replica. What a replica has was announced by a primary before, and
 * whoever promised takes nothing of older epochs any more, so what the candidate gets stays true.
 */
import { type Epoch, epoch, NO_EPOCH } from '../position/epoch.ts'
import { type Exchange, header } from './exchange.ts'
import type { StreamNode } from './stream-node.ts'
import { HEADER } from './stream-protocol.ts'

export type MaySend = () => boolean

/** Whether it may be sent to whoever asks. */
export function maySendTo(exchange: Exchange, node: StreamNode): MaySend {
  const candidate = parseEpoch(header(exchange, HEADER.candidate)) ?? NO_EPOCH
  if (candidate === NO_EPOCH) return () => node.isPrimary()
  return () => node.promised() === candidate
}

/** `undefined` for what is none. */
export function parseEpoch(text: string | undefined): Epoch | undefined {
  return text !== undefined && /^[0-9]{1,15}$/.test(text) ? epoch(Number(text)) : undefined
}
