/**
 * `forward.N`: N inserts in flight from a replica, each answered when it is durable on the primary, with its request id in the
 * ledger. Two processes on loopback. Against messages in flight on one grpc-js stream between two processes. Per second.
 */
import path from 'node:path'
import { ChildProgram } from '../child-program.ts'
import type { OpenedNode } from '../processes/cluster-node.ts'
import { type Row, row } from '../row.ts'
import { alternate, type Workload } from '../workload.ts'

const IN_FLIGHT = [1, 4, 16, 64, 256] as const

export const forward: Workload = {
  name: 'forward',
  async run({ directory, sliceMs, rounds }) {
    await using primary = new ChildProgram('cluster-node.ts')
    await using replica = new ChildProgram('cluster-node.ts')
    await using echoServer = new ChildProgram('grpc-echo.ts')
    await using echoClient = new ChildProgram('grpc-echo.ts')
    const database = 'bench.db'
    const { http } = await primary.ask<OpenedNode>('open', {
      name: 'gru',
      dataDir: path.join(directory, 'gru'),
      database,
      migrations: ['CREATE TABLE rows (id INTEGER PRIMARY KEY, body TEXT NOT NULL)'],
    })
    await replica.ask('open', { name: 'lhr', dataDir: path.join(directory, 'lhr'), database, primary: http })
    const port = await echoServer.ask<number>('listen')
    const rows: Row[] = []
    for (const callers of IN_FLIGHT) {
      const { value, baseline } = await alternate(
        rounds,
        () => replica.ask<number>('insertInFlight', { callers, sliceMs }),
        () => echoClient.ask<number>('callEcho', { port, callers, sliceMs }),
      )
      rows.push(row(`forward.${callers}`, 'writes/s', value, baseline))
    }
    return rows
  },
}
