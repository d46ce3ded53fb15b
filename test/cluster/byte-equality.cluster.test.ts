/**
 * I9: nodes with equal positions have equal databases, byte for byte, whatever was done to them.
 *
 * Real: three nodes in one process with files, sockets and SQLite of their own; the `sqlite3` shell as a foreign writer on the
 * primary's file. Writes arrive at all three nodes. The databases are adopted, so that page size and auto_vacuum vary.
 */
import { mkdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { formatPosition } from '@litefleet/core'
import { TestCluster } from '@litefleet/core/testing'
import Database from 'better-sqlite3'
import { describe, expect, it } from 'vitest'
import { shell } from '../support/foreign-shell.ts'
import { differingPages, imageOf, integrityOf } from '../support/images.ts'
import { Random, seedOfRun } from '../support/random.ts'
import { RandomWorkload } from '../support/random-workload.ts'

const STEPS = 120
const NAME = 'app.db'
const CASES = [
  { pageSize: 512, autoVacuum: 0 },
  { pageSize: 4096, autoVacuum: 1 },
  { pageSize: 65536, autoVacuum: 2 },
  { pageSize: 4096, autoVacuum: 2 },
  { pageSize: 512, autoVacuum: 1 },
  { pageSize: 65536, autoVacuum: 0 },
]

describe('replicas are byte-equal to the primary', () => {
  for (const { pageSize, autoVacuum } of CASES) {
    it(`page size ${pageSize}, auto_vacuum ${autoVacuum}: after a random workload through every node and the shell`, async () => {
      const random = new Random(seedOfRun(`byte equality ${pageSize}/${autoVacuum}`))
      const files: string[] = []
      let cluster: TestCluster | undefined
      try {
        cluster = await startAdopted(pageSize, autoVacuum)
        const handles = await cluster.database(NAME)
        const workloads = handles.map((handle, index) => new RandomWorkload(handle, random, `extra${index}`))
        await workloads[0]?.begin()
        for (let step = 0; step < STEPS; step++) {
          await random.pick(workloads).step()
          if (random.below(6) === 0) await foreignWrite(handles[0]!.path, random)
          if (random.below(12) === 0) await expectEqualEverywhere(cluster, pageSize)
        }
        await expectEqualEverywhere(cluster, pageSize)
        files.push(...handles.map((handle) => handle.path))
        for (const file of files) expect(integrityOf(file)).toBe('ok')
        // Closed in order, so that the files can be compared as they lie on disk.
        for (const index of [2, 1, 0]) await cluster.stopNode(index)
        const [primary, ...replicas] = files.map((file) => readFileSync(file))
        for (const replica of replicas) expect(differingPages(primary!, replica, pageSize)).toBe('')
        expect(cluster.warnings.filter((warning) => warning.name !== 'stream')).toEqual([])
      } finally {
        await cluster?.close()
      }
    })
  }
})

async function startAdopted(pageSize: number, autoVacuum: number): Promise<TestCluster> {
  const cluster = await TestCluster.start({ nodes: 0 })
  const directory = path.join(cluster.dataDirOf(0), 'main', 'dbs', NAME)
  mkdirSync(directory, { recursive: true })
  const file = new Database(path.join(directory, 'database'))
  file.pragma(`page_size = ${pageSize}`)
  file.pragma(`auto_vacuum = ${autoVacuum}`)
  file.exec('CREATE TABLE before (id INTEGER PRIMARY KEY, value TEXT)')
  file.prepare('INSERT INTO before (value) VALUES (?)').run('adopted')
  file.close()
  for (let index = 0; index < 3; index++) await cluster.startNode(index)
  return cluster
}

async function foreignWrite(file: string, random: Random): Promise<void> {
  const count = random.below(20) + 1
  await shell(
    file,
    `CREATE TABLE IF NOT EXISTS foreign_rows (id INTEGER PRIMARY KEY, value BLOB);
     INSERT INTO foreign_rows (value) SELECT randomblob(300) FROM generate_series(1, ${count});
     DELETE FROM foreign_rows WHERE id % 3 = 0;`,
  )
}

async function expectEqualEverywhere(cluster: TestCluster, pageSize: number): Promise<void> {
  const [primary, ...replicas] = await cluster.database(NAME)
  // The shell's commits are noticed by a watch; a write of our own is behind them in the log.
  await primary!.run('UPDATE pair SET a = a WHERE id = 1')
  await cluster.settle(NAME)
  const image = imageOf(primary!.path)
  for (const replica of replicas) {
    expect(formatPosition(replica.position)).toBe(formatPosition(primary!.position))
    expect(differingPages(image, imageOf(replica.path), pageSize)).toBe('')
  }
}
