/**
 * `open.clean`: opening a primary with a database of 10 GB (`--quick`: 100 MB) after a clean stop, until it can be read. In ms,
 * against opening such a file with better-sqlite3 and reading its first row, both in a fresh process.
 */
import path from 'node:path'
import { adopt, BIG_DATABASE, createBigDatabase } from '../big-database.ts'
import { ChildProgram } from '../child-program.ts'
import type { OpenedNode } from '../processes/cluster-node.ts'
import { row } from '../row.ts'
import { median, type Workload } from '../workload.ts'

export const open: Workload = {
  name: 'open',
  async run({ directory, quick, rounds }) {
    const plain = path.join(directory, 'plain.db')
    createBigDatabase(plain, quick ? 100e6 : 10e9)
    const dataDir = path.join(directory, 'gru')
    await adopt(plain, dataDir)
    const node = { name: 'gru', dataDir, database: BIG_DATABASE }
    {
      // The first time, every page is hashed.
      await using program = new ChildProgram('cluster-node.ts')
      await program.ask('open', node)
    }
    const values: number[] = []
    const baselines: number[] = []
    for (let round = 0; round < rounds; round++) {
      await using program = new ChildProgram('cluster-node.ts')
      values.push((await program.ask<OpenedNode>('open', node)).tookMs)
      await using bare = new ChildProgram('bare-node.ts')
      baselines.push((await bare.ask<{ tookMs: number }>('open', { path: plain })).tookMs)
    }
    return [row('open.clean', 'ms', median(values), median(baselines))]
  },
}
