/**
 * Callers that write rows through nodes that come and go, and the book of what each of them was told.
 *
 * A row has a number of its own; the same transaction counts it in `tally`. So a transaction that took effect twice, half, or after it was
 * declared not applied shows in what the database holds in the end. The last column makes transactions of different sizes.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Outcome, SqlStatement } from '@litefleet/core'
import { expect } from 'vitest'
import type { NodeError, ProcessNode } from './process-node.ts'
import type { Random } from './random.ts'

/** Between two writes of a caller: the point is when things happen, not how many. */
const PAUSE_MS = 5

export const TRACKED_SCHEMA: readonly SqlStatement[] = [
  { sql: 'CREATE TABLE entry (id INTEGER PRIMARY KEY, caller INTEGER NOT NULL, body BLOB)' },
  { sql: 'CREATE TABLE tally (id INTEGER PRIMARY KEY CHECK (id = 1), count INTEGER NOT NULL)' },
  { sql: 'INSERT INTO tally VALUES (1, 0)' },
]

export interface TrackedWritesOptions {
  readonly database: string
  readonly random: Random
  /** The node a caller asks next; asked before each write. */
  node(caller: number): ProcessNode
  readonly callers: number
  /** Largest row in bytes. */
  readonly bodyBytesMax: number
  /** How long a write may take, by caller, in turn. */
  readonly timeoutsMs: readonly number[]
}

export class TrackedWrites {
  readonly #options: TrackedWritesOptions
  readonly #outcomes = new Map<number, Outcome>()
  /** Number of the row → request id, of writes whose outcome is unknown. */
  readonly #unknown = new Map<number, string>()
  readonly #invisible: number[] = []
  readonly #resolved = { applied: 0, 'not-applied': 0 }
  #newestTxid = 0n
  #nextId = 1
  #callers: Promise<void>[] = []
  #isStopping = false

  constructor(options: TrackedWritesOptions) {
    this.#options = options
  }

  /** How many writes were acknowledged. */
  get acknowledged(): number {
    return this.#idsOf('applied').length
  }

  /** How many writes with an unknown outcome were found to be one or the other. */
  get resolved(): Readonly<Record<'applied' | 'not-applied', number>> {
    return this.#resolved
  }

  /** The largest TXID any caller was told. */
  get newestTxid(): bigint {
    return this.#newestTxid
  }

  start(): void {
    this.#callers = Array.from({ length: this.#options.callers }, (_, caller) => this.#write(caller))
  }

  /** Waits until so many more writes are acknowledged. */
  async progress(writes: number): Promise<void> {
    const target = this.acknowledged + writes
    await expect.poll(() => this.acknowledged, { timeout: 60_000, interval: 5 }).toBeGreaterThanOrEqual(target)
  }

  async stop(): Promise<void> {
    this.#isStopping = true
    await Promise.all(this.#callers)
  }

  /** I7: asks what became of every write whose outcome is unknown. From here on the book has no unknown ones. Answers how many there were. */
  async resolveUnknown(node: ProcessNode): Promise<number> {
    const asked = [...this.#unknown]
    for (const [id, requestId] of asked) await this.#resolve(node, id, requestId, 60_000)
    return asked.length
  }

  /** I1, I3, I7: what was acknowledged is there, and was at once; what was refused is not; each once, and no row that nobody wrote. */
  async expectHonest(node: ProcessNode): Promise<void> {
    const { database } = this.#options
    expect(this.#invisible, 'acknowledged and not visible').toEqual([])
    const ids = new Set((await node.read(database, 'SELECT id FROM entry')).map(([id]) => Number(id)))
    expect(
      this.#idsOf('applied').filter((id) => !ids.has(id)),
      'acknowledged and lost',
    ).toEqual([])
    expect(
      this.#idsOf('not-applied').filter((id) => ids.has(id)),
      'refused and applied',
    ).toEqual([])
    expect(
      [...ids].filter((id) => !this.#outcomes.has(id)),
      'written by nobody',
    ).toEqual([])
    expect(await node.read(database, 'SELECT count FROM tally')).toEqual([[ids.size]])
  }

  async #write(caller: number): Promise<void> {
    const { database, node, random, bodyBytesMax, timeoutsMs } = this.#options
    const timeoutMs = timeoutsMs[caller % timeoutsMs.length] ?? 5_000
    while (!this.#isStopping) {
      const id = this.#nextId++
      const statements: readonly SqlStatement[] = [
        { sql: 'INSERT INTO entry VALUES (?, ?, randomblob(?))', params: [id, caller, random.below(bodyBytesMax)] },
        { sql: 'UPDATE tally SET count = count + 1' },
      ]
      try {
        const asked = node(caller)
        const { position } = await asked.batch(database, statements, { timeoutMs })
        this.#outcomes.set(id, 'applied')
        if (position.txid > this.#newestTxid) this.#newestTxid = position.txid
        await this.#readBack(asked, id)
        await sleep(PAUSE_MS)
      } catch (error) {
        // Without an outcome it is SQLite's own, or a defect: then nothing may have happened.
        const { outcome = 'not-applied', details } = error as Partial<Pick<NodeError, 'outcome' | 'details'>>
        this.#outcomes.set(id, outcome)
        const requestId = details?.['requestId']
        if (outcome === 'unknown' && typeof requestId === 'string') {
          this.#unknown.set(id, requestId)
          // While everything is still going on, so that what is declared not applied may yet be under way.
          if (random.below(2) === 0) await this.#resolve(node(caller), id, requestId, timeoutMs).catch(() => undefined)
        }
        await sleep(20)
      }
    }
  }

  async #resolve(node: ProcessNode, id: number, requestId: string, timeoutMs: number): Promise<void> {
    const { outcome } = await node.resolve(this.#options.database, requestId, { timeoutMs })
    this.#outcomes.set(id, outcome)
    this.#unknown.delete(id)
    this.#resolved[outcome]++
    if (outcome === 'applied') await this.#readBack(node, id)
  }

  /** I3: who is told that a write is visible on its node sees it there. */
  async #readBack(asked: ProcessNode, id: number): Promise<void> {
    const rows = await asked
      .read(this.#options.database, 'SELECT id FROM entry WHERE id = ?', [id])
      .catch(() => undefined)
    if (rows?.length === 0) this.#invisible.push(id)
  }

  #idsOf(outcome: Outcome): number[] {
    return [...this.#outcomes].filter(([, told]) => told === outcome).map(([id]) => id)
  }
}
