/** `read.get`: point reads through the handle, against the same reads through bare better-sqlite3. Rows per second. */
import { openCluster } from '@litefleet/core'
import Database from 'better-sqlite3'
import path from 'node:path'
import { CREATE_ITEMS, FILL_ITEMS, ITEMS } from '../items.ts'
import { row } from '../row.ts'
import { alternate, ratePerSecond, type Workload } from '../workload.ts'

export const read: Workload = {
  name: 'read',
  async run({ directory, sliceMs, rounds }) {
    await using cluster = await openCluster({
      dataDir: path.join(directory, 'node'),
      lease: { kind: 'static', primary: true },
    })
    const ours = await cluster.database('bench.db', {
      migrations: [{ name: '1', sql: `${CREATE_ITEMS};${FILL_ITEMS}` }],
    })
    // On the same file: SQLite asks the kernel for fewer locks on a file that this process has locked already.
    const bare = new Database(ours.path, { readonly: true })
    try {
      const sql = 'SELECT id, body FROM items WHERE id = ?'
      const get = ours.prepare(sql)
      const bareGet = bare.prepare(sql)
      const id = (): number => 1 + Math.floor(Math.random() * ITEMS)
      const { value, baseline } = await alternate(
        rounds,
        () => ratePerSecond(sliceMs, () => get.get(id())),
        () => ratePerSecond(sliceMs, () => bareGet.get(id())),
      )
      return [row('read.get', 'reads/s', value, baseline)]
    } finally {
      bare.close()
    }
  },
}
