/**
 * A caller of the application: asks for one operation after the other, on nodes of its choice, and writes into the book
 * what it was told.
 *
 * It lives in the process of the node it calls, so it learns nothing when that process dies. What it may repeat (under
 * an idempotency key or a request id) it repeats, there or elsewhere, until it knows.
 */
import { isClusterError } from '../../packages/core/src/errors/cluster-error.ts'
import type { WriteAnswer, WriteCall } from '../../packages/core/src/forward/write-call.ts'
import type { AwaitLevel } from '../../packages/core/src/request/await-level.ts'
import type { RequestId } from '../../packages/core/src/request/request-id.ts'
import type { SqlStatement, WriteOperation } from '../../packages/core/src/request/write-request.ts'
import { ACCOUNTS, State } from './application.ts'
import type { Chance } from './chance.ts'
import type { Fleet } from './fleet.ts'
import type { Operation, OperationBook } from './operation-book.ts'
import { DATABASE } from './sim-directory.ts'
import type { SimNode } from './sim-node.ts'
import { Violation } from './violation.ts'

const ATTEMPTS_MAX = 6
/** Wall clocks differ by no more, together. */
const LONGEST_JUMP_MS = 3_600_000

type AttemptOutcome =
  | { readonly kind: 'applied'; readonly answer: WriteAnswer | undefined }
  | { readonly kind: 'refused' | 'unknown'; readonly code: string }

export class Client {
  readonly #name: string
  readonly #fleet: Fleet
  readonly #book: OperationBook
  readonly #chance: Chance
  readonly #running = new Set<Promise<void>>()
  #sequence = 0
  #isStopped = false
  /** The last operation that it knows to be applied. */
  #last: string | undefined

  constructor(name: string, fleet: Fleet, book: OperationBook, chance: Chance) {
    this.#name = name
    this.#fleet = fleet
    this.#book = book
    this.#chance = chance
  }

  start(): void {
    this.#track(this.#work())
  }

  /** Asks for many operations at once. */
  burst(count: number): void {
    for (let i = 0; i < count; i++) this.#track(this.#operate(this.#next(undefined)))
  }

  /** Takes up nothing new. */
  stop(): void {
    this.#isStopped = true
  }

  get isIdle(): boolean {
    return this.#running.size === 0
  }

  #track(work: Promise<void>): void {
    const tracked = work
      .catch((error: unknown) => this.#fleet.violate(error))
      .finally(() => this.#running.delete(tracked))
    this.#running.add(tracked)
  }

  async #work(): Promise<void> {
    while (!this.#isStopped) {
      await this.#pause(this.#chance.between(5, 200))
      const operation = this.#next(this.#last)
      await this.#operate(operation)
      if (operation.told === 'applied') this.#last = operation.id
    }
  }

  #next(after: string | undefined): Operation {
    const nodes = this.#fleet.machines.length
    const hasVoters = this.#fleet.settings.voters.length > 0
    const level = this.#chance.weighted<AwaitLevel>([
      [2, 'none'],
      [3, 'local'],
      [3, { replicas: 1 }],
      [1, { replicas: Math.min(2, nodes) }],
      [1, 'all'],
      [hasVoters ? 5 : 0, 'majority'],
    ])
    return this.#book.add(`${this.#name}-${++this.#sequence}`, level, after)
  }

  async #operate(operation: Operation): Promise<void> {
    const chance = this.#chance
    // A key is remembered for the retention only, by a wall clock that jumps; a request id that was forgotten is refused.
    const { retentionMs } = this.#fleet.settings.node.ledger
    const identity = chance.weighted<'key' | 'id' | 'none'>([
      [retentionMs > LONGEST_JUMP_MS ? 3 : 0, 'key'],
      [3, 'id'],
      [2, 'none'],
    ])
    const write = operationOf(operation.id, chance)
    let requestId: RequestId | undefined
    let wasUnknown = false
    for (let attempt = 1; ; attempt++) {
      const node = this.#anyNode()
      if (node === undefined) {
        await this.#pause(50)
        if (attempt > ATTEMPTS_MAX) break
        continue
      }
      if (identity === 'id') requestId ??= node.requestIds.next()
      const call: WriteCall = {
        database: DATABASE,
        operation: write,
        requestId,
        idempotencyKey: identity === 'key' ? operation.id : undefined,
        await: operation.level,
        timeoutMs: chance.pick([300, 1_000, 3_000]),
      }
      const outcome = await this.#attempt(node, call)
      this.#fleet.events.add(
        `${operation.id} on ${node.name}: ${outcome.kind === 'applied' ? 'applied' : outcome.code}`,
      )
      if (outcome.kind === 'applied') {
        operation.told = 'applied'
        if (outcome.answer !== undefined) this.#checkOwnWrite(node, operation, outcome.answer)
        return
      }
      if (outcome.kind === 'unknown') wasUnknown = true
      const mayRepeat = identity !== 'none' || !wasUnknown
      if (!mayRepeat || attempt >= ATTEMPTS_MAX || outcome.code === 'SQLITE_CONSTRAINT_PRIMARYKEY') break
      await this.#pause(chance.between(20, 400))
    }
    operation.told = wasUnknown ? 'unknown' : 'refused'
    if (wasUnknown && requestId !== undefined) await this.#ask(operation, requestId)
  }

  /** What became of it? When it has not run, it never will in the history that says so. */
  async #ask(operation: Operation, requestId: RequestId): Promise<void> {
    const node = this.#anyNode()
    if (node === undefined) return
    this.#book.asked(requestId, operation)
    const answer = await this.#untilDeath<string>(
      node,
      node.resolve({ database: DATABASE, requestId, timeoutMs: 1_000 }).then(
        ({ outcome }) => outcome,
        (error: unknown) => (isClusterError(error) ? error.code : String(error)),
      ),
      'its process died',
    )
    this.#fleet.events.add(`${operation.id} asked on ${node.name}: ${answer}`)
    if (answer === 'applied') operation.told = 'applied'
  }

  #untilDeath<T>(node: SimNode, work: Promise<T>, orElse: T): Promise<T> {
    return new Promise((resolve) => {
      const stopListening = this.#fleet.onDeath((process) => {
        if (process !== node.process) return
        stopListening()
        resolve(orElse)
      })
      void work.then((value) => {
        if (node.process.isDead) return
        stopListening()
        resolve(value)
      })
    })
  }

  /** Resolves when the node answered, or its process died. */
  #attempt(node: SimNode, call: WriteCall): Promise<AttemptOutcome> {
    const work = node.write(call).then(
      (answer): AttemptOutcome => ({ kind: 'applied', answer }),
      (error: unknown): AttemptOutcome =>
        node.process.isDead ? { kind: 'unknown', code: 'its process died' } : this.#failure(error),
    )
    return this.#untilDeath<AttemptOutcome>(node, work, { kind: 'unknown', code: 'its process died' })
  }

  #failure(error: unknown): AttemptOutcome {
    if (!isClusterError(error)) {
      const { code } = error as { readonly code?: string }
      if (code?.startsWith('SQLITE_CONSTRAINT') === true || code === 'SQLITE_FULL') return { kind: 'refused', code }
      throw new Violation('error', `a client got ${String(error)}`)
    }
    if (error.code === 'REQUEST_ID_REUSED' || error.code === 'POSITION_DIVERGED') {
      throw new Violation('error', `a client got ${error.message}`)
    }
    if (error.outcome === 'applied') return { kind: 'applied', answer: undefined }
    return { kind: error.outcome === 'unknown' ? 'unknown' : 'refused', code: error.code }
  }

  /** I3: for every level but `none` a read on the calling node sees the write. */
  #checkOwnWrite(node: SimNode, operation: Operation, answer: WriteAnswer): void {
    if (operation.level === 'none' || node.process.isDead) return
    const { position } = node.database.tracker.current
    if (position.txid < answer.position.txid) return this.#missing(node, operation)
    // A primary that came meanwhile may have seeded the node with a history that does not have it.
    if (node.database.tracker.current.epoch !== answer.epoch) return
    if (!new State(node.process.machine.file.current, false).has(operation.id)) this.#missing(node, operation)
  }

  #missing(node: SimNode, operation: Operation): void {
    this.#fleet.violate(
      new Violation('I3', `${operation.id} is answered on ${node.name}, and a read there does not see it`),
    )
  }

  #anyNode(): SimNode | undefined {
    const nodes = this.#fleet.nodes.filter(({ process }) => !process.isPaused)
    return nodes.length === 0 ? undefined : this.#chance.pick(nodes)
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => void this.#fleet.time.setTimer(ms, undefined, resolve))
  }
}

function operationOf(id: string, chance: Chance): WriteOperation {
  const note: SqlStatement = { sql: 'INSERT INTO op (id) VALUES (?)', params: [id] }
  const batch = (...statements: readonly SqlStatement[]): WriteOperation => ({
    kind: 'batch',
    statements: [note, ...statements],
  })
  const account = (): number => chance.between(1, ACCOUNTS)
  const transfer = { from: account(), to: account(), cents: chance.between(1, 50) }
  switch (chance.pick(['append', 'transfer', 'transfer', 'procedure', 'blob', 'tidy', 'fails'])) {
    case 'transfer':
      return batch(
        { sql: 'UPDATE account SET cents = cents - ? WHERE id = ?', params: [transfer.cents, transfer.from] },
        { sql: 'UPDATE account SET cents = cents + ? WHERE id = ?', params: [transfer.cents, transfer.to] },
      )
    case 'procedure':
      return { kind: 'procedure', name: 'transfer', input: { id, ...transfer } }
    case 'blob':
      return batch({ sql: 'INSERT INTO blob (bytes) VALUES (zeroblob(?))', params: [chance.between(100, 6_000)] })
    case 'tidy':
      return batch({ sql: 'DELETE FROM blob', params: [] })
    case 'fails':
      return batch({ sql: 'INSERT INTO account VALUES (1, 0)', params: [] })
    default:
      return batch()
  }
}
