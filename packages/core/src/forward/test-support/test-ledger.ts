/** Runs each request id once and remembers its answer, as the request ledger does; what was resolved as not applied never runs. */
import { ClusterError } from '../../errors/cluster-error.ts'
import { NO_EPOCH } from '../../position/epoch.ts'
import { ZERO_POSITION } from '../../position/position.ts'
import type { ExecuteHere, ResolveHere, WriteAnswer, WriteCall } from '../write-call.ts'
import { echo } from './test-node.ts'

export class TestLedger {
  readonly calls: WriteCall[] = []
  readonly questions: string[] = []
  readonly applied = new Map<string, WriteAnswer>()
  readonly abandoned = new Set<string>()

  readonly execute: ExecuteHere = async (call) => {
    this.calls.push(call)
    const id = String(call.requestId)
    const known = this.applied.get(id)
    if (known !== undefined) return { ...known, replayed: true }
    if (this.abandoned.has(id)) throw new ClusterError('REQUEST_ABANDONED', 'it was declared not applied')
    const answer = echo(call)
    this.applied.set(id, answer)
    return answer
  }

  readonly resolve: ResolveHere = async ({ requestId }) => {
    this.questions.push(requestId)
    const known = this.applied.get(requestId)
    if (known !== undefined) {
      const { result, position, epoch } = known
      return { outcome: 'applied', result, position, epoch }
    }
    this.abandoned.add(requestId)
    return { outcome: 'not-applied', position: ZERO_POSITION, epoch: NO_EPOCH }
  }
}
