/**
 * A reader that does not end holds up nothing: neither the apply of a replica nor the writes of the primary. The WAL grows meanwhile, within
 * its policy, and shrinks when the reader is gone.
 *
 * Real: nodes and readers as processes, with files, sockets and SQLite of their own.
 * What may be lost: nothing.
 */
import { statSync } from 'node:fs'
import { expect, test } from 'vitest'
import { BOOK_SCHEMA, nextVersion } from '../support/ledger-book.ts'
import { ProcessCluster } from '../support/process-cluster.ts'
import { Random, seedOfRun } from '../support/random.ts'
import { ReaderProcess } from '../support/reader-process.ts'

const NAME = 'book.db'
const ROW_BYTES = 600_000
/** Of rows: more than both the replica's soft limit and the primary's threshold, several times. */
const VERSIONS = 150
/** What an idle WAL may keep (`sqlite/connection.ts`). */
const WAL_KEPT_BYTES = 64 * 2 ** 20

test.each([
  ['primary', 0],
  ['replica', 1],
])(
  'a read transaction on a %s keeps its snapshot while everything else goes on, and costs room only as long as it lasts',
  async (_, index) => {
    const random = new Random(seedOfRun('a long read'))
    await using cluster = await ProcessCluster.start(2, { database: NAME })
    await cluster.primary.batch(NAME, BOOK_SCHEMA)
    await cluster.settle(1)
    await using reader = await ReaderProcess.start(cluster.fileOf(index), 1)
    const held = await reader.hold()
    // Written on the replica: each is answered when it is visible there.
    for (let version = 1; version <= VERSIONS; version++)
      await cluster.node(1).batch(NAME, nextVersion(random, ROW_BYTES))
    const walBytes = (): number => statSync(`${cluster.fileOf(index)}-wal`).size
    expect(walBytes()).toBeGreaterThan(VERSIONS * ROW_BYTES)
    await cluster.expectEqual(1)
    expect(held).toBe(0)
    expect(await reader.release()).toBe(VERSIONS)
    // What comes next is copied back with the rest, in steps, and the room is given back.
    await expect
      .poll(
        async () => {
          await cluster.node(1).batch(NAME, nextVersion(random, ROW_BYTES))
          return walBytes()
        },
        { timeout: 30_000 },
      )
      .toBeLessThanOrEqual(WAL_KEPT_BYTES)
    expect((await reader.stop()).problems).toEqual([])
    await cluster.expectEqual(1)
  },
)
