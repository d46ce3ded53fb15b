/**
 * `commit.1`: one caller on the primary, each insert a transaction: commit, capture, log. Against a bare commit.
 * `commit.64`: 64 callers at once, each with a request id of its own kept in the ledger. Against bare batches of 64 rows.
 * Both with `synchronous=FULL`, in writes per second.
 */
import { openCluster } from '@litefleet/core'
import Database from 'better-sqlite3'
import path from 'node:path'
import { row } from '../row.ts'
import { alternate, rateInFlight, ratePerSecond, type Workload } from '../workload.ts'

const CREATE = 'CREATE TABLE rows (id INTEGER PRIMARY KEY, body TEXT NOT NULL)'
const INSERT = 'INSERT INTO rows (body) VALUES (?)'
const BATCH = 64

export const commit: Workload = {
  name: 'commit',
  async run({ directory, sliceMs, rounds }) {
    await using cluster = await openCluster({
      dataDir: path.join(directory, 'node'),
      lease: { kind: 'static', primary: true },
    })
    const ours = await cluster.database('bench.db', { migrations: [{ name: '1', sql: CREATE }] })
    const bare = new Database(path.join(directory, 'bare.db'))
    try {
      bare.pragma('journal_mode = WAL')
      bare.pragma('synchronous = FULL')
      bare.exec(CREATE)
      const insert = bare.prepare(INSERT)
      const insertBatch = bare.transaction(() => {
        for (let i = 0; i < BATCH; i++) insert.run('a small row')
      })
      const one = await alternate(
        rounds,
        () => rateInFlight(1, sliceMs, () => ours.run(INSERT, ['a small row'])),
        () => ratePerSecond(sliceMs, () => insert.run('a small row')),
      )
      let key = 0
      const many = await alternate(
        rounds,
        () =>
          rateInFlight(BATCH, sliceMs, () => ours.run(INSERT, ['a small row'], { idempotencyKey: `bench-${key++}` })),
        () => BATCH * ratePerSecond(sliceMs, insertBatch),
      )
      return [
        row('commit.1', 'writes/s', one.value, one.baseline),
        row('commit.64', 'writes/s', many.value, many.baseline),
      ]
    } finally {
      bare.close()
    }
  },
}
