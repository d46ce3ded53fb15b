/**
 * `POST /promote` and `POST /handoff?nodeID=`, by which LiteFS nodes and their tools move the office of the primary. Both as LiteFS 0.5.14 answers
 * them, with one difference: the answer comes when the office has moved, not when that was begun.
 *
 * A LiteFS node that is to be promoted asks the primary for a handoff to itself; it has no other way. It cannot authenticate, so both are refused unless
 * they were switched on by name.
 */
import { type Exchange, refuse, reply } from './exchange.ts'
import type { StreamGate } from './stream-gate.ts'
import { parseNodeId } from './stream-protocol.ts'

export interface OfficeControl {
  /** This node becomes the primary. Rejects with why it does not. */
  promote(): Promise<void>
  /** The office of this node goes to the LiteFS replica of this id (16 uppercase hex digits). Rejects with why it does not. */
  handOff(nodeId: string): Promise<void>
}

type Headers = Readonly<Record<string, string>>

export async function answerOffice(
  kind: 'promote' | 'handoff',
  exchange: Exchange,
  headers: Headers,
  gate: StreamGate,
  office: OfficeControl | undefined,
): Promise<void> {
  const admission = gate.admit(exchange)
  if (admission.kind === 'refused') return refuse(exchange, admission.status, headers, admission.message)
  if (office === undefined)
    return refuse(exchange, 403, headers, 'this node does not let LiteFS nodes move the office (interop.handoff)')
  const nodeId = parseNodeId(exchange.query.get('nodeID') ?? undefined)
  if (kind === 'handoff' && nodeId === undefined) return refuse(exchange, 400, headers, 'invalid node id')
  try {
    await (nodeId === undefined || kind === 'promote' ? office.promote() : office.handOff(nodeId))
    reply(exchange, 200, headers, '')
  } catch (error) {
    const reason = error instanceof Error ? error.message.split('\n', 1)[0] : String(error)
    refuse(exchange, 500, headers, `${kind === 'promote' ? 'handoff failed' : 'cannot handoff'}: ${reason}`)
  }
}
