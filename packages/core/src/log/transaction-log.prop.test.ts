/**
 * I1, I2: whatever is done to a log, and wherever the process is killed or the power cut, the log that is opened next is a
 * gapless run of the records that were appended; it ends no earlier than what a sync has promised, and begins no later
 * than what was pruned or reset. A killed process loses nothing that `append` returned from.
 *
 * Real: the whole room. Modelled: the disk (power-cut-disk.ts), with out-of-order and torn loss of unsynced writes.
 * May be lost: records that were appended and not synced, at a power cut.
 */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Random, seedOfRun } from '../../../../test/support/random.ts'
import type { PageChecksums } from '../ltx/page-checksums.ts'
import { epoch, type EpochTable } from '../position/epoch.ts'
import { samePosition } from '../position/position.ts'
import { nextTxid, type Txid, txid } from '../position/txid.ts'
import { openLog } from './test-support/log-fixture.ts'
import { PowerCutDisk } from './test-support/power-cut-disk.ts'
import { RecordChain } from './test-support/record-chain.ts'
import type { LogEntry, LogTail, TransactionLog } from './transaction-log.ts'

type Step =
  | { readonly kind: 'append'; readonly records: number; readonly pages: number }
  | { readonly kind: 'sync' | 'sync-now' | 'sync-later' | 'new-epoch' | 'kill' | 'power-cut' }
  | { readonly kind: 'prune'; readonly back: number }
  | { readonly kind: 'reset'; readonly ahead: number }
  /** The next step dies at its n-th change of the disk. */
  | { readonly kind: 'bomb'; readonly changes: number; readonly isPowerCut: boolean }

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 8,
      arbitrary: fc.record({
        kind: fc.constant('append' as const),
        records: fc.integer({ min: 1, max: 9 }),
        pages: fc.integer({ min: 1, max: 4 }),
      }),
    },
    {
      weight: 6,
      arbitrary: fc.record({
        kind: fc.constantFrom('sync', 'sync-now', 'sync-later', 'new-epoch', 'kill', 'power-cut'),
      }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('prune' as const), back: fc.integer({ min: 0, max: 8 }) }) },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant('reset' as const), ahead: fc.integer({ min: -3, max: 5 }) }),
    },
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant('bomb' as const),
        changes: fc.integer({ min: 0, max: 12 }),
        isPowerCut: fc.boolean(),
      }),
    },
  ),
  { minLength: 5, maxLength: 40 },
)

/** What the log may be after a crash. */
interface History {
  readonly start: LogTail
  /** After `start`, in order. */
  readonly entries: LogEntry[]
  /** Page checksums after each entry, so that a chain can go on from there; the first is at the start. */
  readonly checksums: PageChecksums[]
}

class Model {
  readonly disk = new PowerCutDisk()
  readonly random: Random
  log: TransactionLog
  history: History
  /** Before a reset that did not return. */
  earlier: History | undefined
  syncedTo: Txid
  /** The log may begin as late as this. */
  prunedTo: Txid
  epochNow = epoch(1)
  tables: EpochTable[] = [[]]
  seed = 1
  readonly later: Promise<unknown>[] = []

  constructor(seed: number) {
    this.random = new Random(seed)
    this.log = this.open()
    const chain = new RecordChain()
    this.history = { start: this.log.start, entries: [], checksums: [chain.checksums.clone()] }
    this.syncedTo = txid(0n)
    this.prunedTo = txid(0n)
  }

  open(): TransactionLog {
    return openLog('/log', {
      disk: this.disk.forProcess(),
      nowMs: 1e9,
      retentionMs: 0,
      tailCacheBytes: this.random.pick([0, 70_000]),
    })
  }

  async run(step: Step): Promise<void> {
    switch (step.kind) {
      case 'append':
        return this.append(step.records, step.pages)
      case 'sync':
        await this.log.sync()
        return this.synced(this.log.tail.position.txid)
      case 'sync-now':
        this.log.syncNow()
        return this.synced(this.log.tail.position.txid)
      case 'sync-later': {
        const { history, log } = this
        const { txid: target } = log.tail.position
        // After a reset or a crash it says nothing about the log there is then.
        const note = (): void => void (history === this.history && log === this.log && this.synced(target))
        this.later.push(log.sync().then(note, () => {}))
        return
      }
      case 'new-epoch':
        return this.newEpoch()
      case 'prune':
        return this.prune(step.back)
      case 'reset':
        return this.reset(step.ahead)
      case 'kill':
        return this.crash(false)
      case 'power-cut':
        return this.crash(true)
      case 'bomb':
    }
  }

  append(count: number, pages: number): void {
    const { entries, checksums } = this.history
    const chain = new RecordChain({ seed: this.seed++, position: this.log.tail.position, checksums: checksums.at(-1) })
    const batch: LogEntry[] = []
    for (let i = 0; i < count; i++) {
      batch.push({ epoch: this.epochNow, record: chain.next(pages) })
      checksums.push(chain.checksums.clone())
    }
    entries.push(...batch)
    this.log.append(batch)
  }

  synced(target: Txid): void {
    if (target > this.syncedTo) this.syncedTo = target
    expect(this.log.syncedTail.position.txid >= target).toBe(true)
  }

  newEpoch(): void {
    this.epochNow = epoch(this.epochNow + 1)
    const { txid: last, checksum } = this.log.tail.position
    const start = { epoch: this.epochNow, firstTxid: nextTxid(last), checksumBefore: checksum }
    const table = this.log.epochTable().filter((earlier) => earlier.firstTxid < start.firstTxid)
    this.tables.push([...table, start])
    this.log.recordEpochStart(start)
    this.tables = [this.log.epochTable()]
  }

  prune(back: number): void {
    const tail = this.log.tail.position.txid
    const durableInDatabase = (tail > BigInt(back) ? tail - BigInt(back) : 0n) as Txid
    if (durableInDatabase > this.prunedTo) this.prunedTo = durableInDatabase
    this.log.prune({ durableInDatabase })
  }

  reset(ahead: number): void {
    const { position } = this.log.tail
    const to = position.txid + BigInt(ahead)
    // A position that has a checksum: at least one transaction was made.
    if (to < 1n || position.txid < 1n) return
    const checksums = this.history.checksums.at(-1)!
    const start = { position: { txid: txid(to), checksum: checksums.checksum }, epoch: this.epochNow }
    // After a crash nobody could tell the two logs apart.
    if (samePosition(start.position, this.log.start.position)) return
    this.earlier = this.history
    this.history = { start, entries: [], checksums: [checksums] }
    this.log.reset(start)
    this.earlier = undefined
    this.syncedTo = start.position.txid
    this.prunedTo = start.position.txid
  }

  async crash(isPowerCut: boolean): Promise<void> {
    const wasDead = this.disk.isDead
    if (isPowerCut) this.disk.cutPower(() => this.random.next())
    else this.disk.restartProcess()
    await Promise.all(this.later.splice(0))
    const appended = this.history.start.position.txid + BigInt(this.history.entries.length)
    this.log = this.open()
    const found = this.check()
    // A reset that was not reported may have happened; then what was durable before it does not count.
    const isReset = this.earlier !== undefined && !found.isEarlier
    expect(isReset || found.tail >= this.syncedTo).toBe(true)
    if (!isPowerCut && !wasDead) expect(found.tail).toBe(appended)
    expect(this.tables).toContainEqual(this.log.epochTable())
    this.tables = [this.log.epochTable()]
    this.settle(found.history)
  }

  /** Compares everything the log holds with the history it must come from. */
  check(): { tail: Txid; history: History; isEarlier: boolean } {
    const { start, tail } = this.log
    const isEarlier = this.earlier !== undefined && !samePosition(start.position, this.history.start.position)
    const history = isEarlier ? this.earlier! : this.history
    const base = history.start.position.txid
    expect(start.position.txid >= base).toBe(true)
    expect(start.position.txid <= (this.prunedTo > base ? this.prunedTo : base)).toBe(true)
    expect(tail.position.txid <= base + BigInt(history.entries.length)).toBe(true)
    for (let after = start.position; !samePosition(after, tail.position); ) {
      const answer = this.log.readAfter(after, 2_000)
      if (answer.kind !== 'records') throw new Error(`${answer.kind} after ${after.txid}`)
      for (const [i, bytes] of answer.records.entries()) {
        const entry = history.entries[Number(after.txid - base) + i]!
        expect(bytes.equals(entry.record.bytes)).toBe(true)
        expect(answer.epochs[i]).toBe(entry.epoch)
      }
      after = answer.end
    }
    const last = history.entries[Number(tail.position.txid - base) - 1]
    expect(tail.position).toEqual(last?.record.postApply ?? history.start.position)
    expect(tail.epoch).toBe(last?.epoch ?? history.start.epoch)
    expect(this.log.lastRecordHeader()?.maxTxid).toBe(this.log.recordCount > 0 ? tail.position.txid : undefined)
    return { tail: tail.position.txid, history, isEarlier }
  }

  /** From here on the log is what was found. */
  settle(history: History): void {
    const count = Number(this.log.tail.position.txid - history.start.position.txid)
    this.history = {
      start: history.start,
      entries: history.entries.slice(0, count),
      checksums: history.checksums.slice(0, count + 1),
    }
    this.earlier = undefined
    this.syncedTo = this.log.tail.position.txid
    this.prunedTo = this.log.start.position.txid
  }
}

test('a log under random work, kills and power cuts is always a gapless run of what was appended', async () => {
  const seed = seedOfRun('transaction log')
  await fc.assert(
    fc.asyncProperty(steps, fc.integer(), async (work, chance) => {
      const model = new Model(chance)
      let bomb: Extract<Step, { kind: 'bomb' }> | undefined
      for (const step of work) {
        if (step.kind === 'bomb') {
          bomb = step
          continue
        }
        if (bomb !== undefined) model.disk.setBomb(bomb.changes)
        try {
          await model.run(step)
        } catch (error) {
          if (!model.disk.isDead) throw error
        }
        if (bomb === undefined) model.check()
        else await model.crash(bomb.isPowerCut)
        bomb = undefined
      }
      await Promise.all(model.later)
      await model.log.close()
      expect(model.disk.openDescriptors).toBe(0)
    }),
    { seed: seed | 0, numRuns: 150 },
  )
})
