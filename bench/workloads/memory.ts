/**
 * `memory.rss`: resident memory of a primary with a database of 1 GB (`--quick`: 100 MB), opened after a clean stop, after some
 * reads and writes. In MB, against a process that does the same with better-sqlite3 alone.
 */
import path from 'node:path'
import { adopt, BIG_DATABASE, createBigDatabase } from '../big-database.ts'
import { ChildProgram } from '../child-program.ts'
import { row } from '../row.ts'
import type { Workload } from '../workload.ts'

export const memory: Workload = {
  name: 'memory',
  async run({ directory, quick }) {
    const plain = path.join(directory, 'plain.db')
    createBigDatabase(plain, quick ? 100e6 : 1e9)
    const dataDir = path.join(directory, 'gru')
    await adopt(plain, dataDir)
    const node = { name: 'gru', dataDir, database: BIG_DATABASE }
    {
      await using program = new ChildProgram('cluster-node.ts')
      await program.ask('open', node)
    }
    await using program = new ChildProgram('cluster-node.ts')
    await program.ask('open', node)
    await program.ask('writeTransactions', { count: 200 })
    await program.ask('readRows', { count: 10_000 })
    await using bare = new ChildProgram('bare-node.ts')
    await bare.ask('open', { path: plain })
    await bare.ask('writeAndRead', { writes: 200, reads: 10_000 })
    // Garbage of the start is collected when the process is idle.
    await new Promise((resolve) => setTimeout(resolve, 2_000))
    return [row('memory.rss', 'MB', await program.ask<number>('rssMb'), await bare.ask<number>('rssMb'))]
  },
}
