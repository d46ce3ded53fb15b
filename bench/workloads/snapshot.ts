/**
 * `snapshot.send`: a new replica gets a database of 1 GB (`--quick`: 100 MB) as a snapshot over loopback, from opening the
 * replica until it can be read. MB per second, against a durable copy of the same file.
 */
import path from 'node:path'
import { adopt, BIG_DATABASE, createBigDatabase } from '../big-database.ts'
import { ChildProgram } from '../child-program.ts'
import type { OpenedNode } from '../processes/cluster-node.ts'
import { row } from '../row.ts'
import { median, type Workload } from '../workload.ts'

export const snapshot: Workload = {
  name: 'snapshot',
  async run({ directory, quick, rounds }) {
    const plain = path.join(directory, 'plain.db')
    const bytes = createBigDatabase(plain, quick ? 100e6 : 1e9)
    const primaryDir = path.join(directory, 'gru')
    const copied = [await adopt(plain, primaryDir)]
    await using primary = new ChildProgram('cluster-node.ts')
    const { http } = await primary.ask<OpenedNode>('open', { name: 'gru', dataDir: primaryDir, database: BIG_DATABASE })
    const sent: number[] = []
    for (let round = 0; round < (quick ? rounds : 3); round++) {
      await using replica = new ChildProgram('cluster-node.ts')
      const { tookMs } = await replica.ask<OpenedNode>('open', {
        name: 'lhr',
        dataDir: path.join(directory, `lhr-${round}`),
        database: BIG_DATABASE,
        primary: http,
      })
      sent.push(bytes / 1e6 / (tookMs / 1000))
      copied.push(await adopt(plain, path.join(directory, `copy-${round}`)))
    }
    return [row('snapshot.send', 'MB/s', median(sent), median(copied))]
  },
}
