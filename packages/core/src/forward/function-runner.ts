/**
 * Runs a registered function on this node, for a caller here or elsewhere, with a deadline.
 *
 * Promises: the answer, the function's error, or at the deadline `CALL_OUTCOME_UNKNOWN`: a function that is running
 * cannot be stopped, only told (its signal). One timer serves all of them.
 * Bound: `runningMax` functions at a time; one more is refused.
 */
import type { Clock } from '../base/clock.ts'
import { CoarseTimer } from '../base/coarse-timer.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { PlainValue } from '../request/plain-value.ts'
import type { FunctionTable } from './function-table.ts'

interface Running {
  readonly name: string
  readonly deadlineMs: number
  readonly abort: AbortController
  fail(error: ClusterError): void
}

const SWEEP_MS = 10
const RUNNING_MAX = 10_000

export class FunctionRunner {
  readonly #functions: FunctionTable
  readonly #clock: Clock
  readonly #sweep: CoarseTimer
  readonly #running = new Set<Running>()

  constructor(functions: FunctionTable, clock: Clock) {
    this.#functions = functions
    this.#clock = clock
    this.#sweep = new CoarseTimer(clock, SWEEP_MS, (nowMs) => this.#expire(nowMs))
  }

  /** @throws UNKNOWN_PROCEDURE, PEER_QUEUE_FULL, DEADLINE_EXCEEDED, CALL_OUTCOME_UNKNOWN; what the function throws */
  async run(name: string, input: PlainValue, caller: string, deadlineMs: number): Promise<PlainValue> {
    const body = this.#functions.get(name)
    if (this.#running.size >= RUNNING_MAX)
      throw new ClusterError('PEER_QUEUE_FULL', `${RUNNING_MAX} functions are running already`)
    if (deadlineMs <= this.#clock.monotonicMs())
      throw new ClusterError('DEADLINE_EXCEEDED', `function "${name}" was not started in time`)
    const expired = Promise.withResolvers<never>()
    const running: Running = { name, deadlineMs, abort: new AbortController(), fail: expired.reject }
    this.#running.add(running)
    this.#sweep.arm()
    try {
      return await Promise.race([body(input, { caller, signal: running.abort.signal }), expired.promise])
    } finally {
      this.#running.delete(running)
    }
  }

  /** Tells every running function that nobody waits any more, and fails its caller. */
  close(): void {
    this.#sweep.stop()
    for (const running of this.#running)
      this.#end(running, new ClusterError('CALL_OUTCOME_UNKNOWN', `function "${running.name}": the node closed`))
  }

  #expire(nowMs: number): boolean {
    for (const running of this.#running) {
      if (running.deadlineMs > nowMs) continue
      this.#end(
        running,
        new ClusterError('CALL_OUTCOME_UNKNOWN', `function "${running.name}" did not end in time; it may still run`),
      )
    }
    return this.#running.size > 0
  }

  #end(running: Running, error: ClusterError): void {
    this.#running.delete(running)
    running.abort.abort(error)
    running.fail(error)
  }
}
