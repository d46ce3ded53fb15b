/**
 * I2, I9 when a database becomes much smaller: VACUUM in WAL mode, as a write of the application or by another program, then more writes
 * and restarts. (LiteFS loses the writes after it: litefs#445.)
 *
 * Real: nodes as processes, with files, sockets and SQLite of their own; SIGKILL; the `sqlite3` shell as the other program.
 * What may be lost: nothing.
 */
import { expect, test } from 'vitest'
import { shell } from '../support/foreign-shell.ts'
import { ProcessCluster } from '../support/process-cluster.ts'

const NAME = 'app.db'
const ROWS = 1_500

test.each([
  ['the application', (cluster: ProcessCluster): Promise<unknown> => cluster.node(1).run(NAME, 'VACUUM')],
  ['another program', (cluster: ProcessCluster): Promise<unknown> => shell(cluster.fileOf(0), 'VACUUM')],
])(
  'a database that shrinks by VACUUM of %s shrinks everywhere, and what is written afterwards stays',
  async (_, vacuum) => {
    await using cluster = await ProcessCluster.start(2, { database: NAME })
    await cluster.primary.batch(NAME, [
      { sql: 'CREATE TABLE entry (id INTEGER PRIMARY KEY, body BLOB)' },
      {
        sql: `INSERT INTO entry WITH RECURSIVE n (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < ?) SELECT id, randomblob(4000) FROM n`,
        params: [ROWS],
      },
    ])
    await cluster.settle(1)
    expect((await cluster.node(1).facts(NAME)).pageCount).toBeGreaterThan(ROWS)
    await cluster.node(1).run(NAME, 'DELETE FROM entry WHERE id > 1')
    await vacuum(cluster)
    await expect.poll(async () => (await cluster.node(1).facts(NAME)).pageCount, { timeout: 10_000 }).toBeLessThan(20)
    await cluster.expectEqual(1)
    let rows = 1
    const insert = async (): Promise<void> => {
      for (let i = 0; i < 20; i++) await cluster.node(1).run(NAME, 'INSERT INTO entry (body) VALUES (randomblob(900))')
      rows += 20
      await cluster.expectEqual(1)
    }
    await insert()
    for (const end of ['kill', 'stop'] as const) {
      for (const index of [0, 1]) {
        await cluster.node(index)[end]()
        await cluster.startNode(index)
        await insert()
      }
    }
    expect(await cluster.node(1).read(NAME, 'SELECT count(*) FROM entry')).toEqual([[rows]])
    expect(cluster.warningsOf()).toEqual([])
  },
)
