import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { RandomWorkload, SeededRandom } from './test-support/random-workload.ts'
import { RecordSource } from './test-support/record-source.ts'
import { TestReplica } from './test-support/test-replica.ts'
import { SqliteDatabase } from '../sqlite/sqlite-library.ts'

const directories: string[] = []
afterEach(() => {
  for (const directory of directories.splice(0)) fs.rmSync(directory, { recursive: true })
})

const STEPS = 45
const cases = [512, 4096, 65536].flatMap((pageSize) => [0, 1, 2].map((autoVacuum) => ({ pageSize, autoVacuum })))

test.each(cases)(
  'random work, pages of $pageSize bytes, auto_vacuum $autoVacuum: every version and the files are equal',
  ({ pageSize, autoVacuum }) => {
    const seed = Math.floor(Math.random() * 2 ** 31)
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'apply-'))
    directories.push(directory)
    const primaryPath = path.join(directory, 'primary.db')
    const replicaPath = path.join(directory, 'replica.db')
    const random = new SeededRandom(seed)
    const workload = new RandomWorkload(random)
    const source = new RecordSource(primaryPath, { pageSize, autoVacuum })
    const options = { walSoftLimitBytes: 40 * pageSize, checkpointStepBytes: 64 * pageSize }
    const replica = TestReplica.createEmpty({ path: replicaPath, pageSize, options })
    const reader = new SqliteDatabase(replicaPath)
    let snapshot: Buffer | undefined
    let applied = 0

    const applyAll = (): void => {
      while (applied < source.records.length) {
        const batch = source.records.slice(applied, applied + 1 + random.below(4))
        replica.applier.apply(batch)
        applied += batch.length
        if (random.below(2) === 0) replica.applier.checkpoint({ force: random.below(2) === 0 })
      }
      expect(replica.image().equals(source.image), `image after ${applied} records, seed ${seed}`).toBe(true)
      expect(replica.applier.position).toEqual(source.position)
    }
    const turnReader = (): void => {
      if (snapshot === undefined) {
        reader.exec('BEGIN; SELECT count(*) FROM sqlite_schema')
        snapshot = reader.serialize()
        return
      }
      expect(reader.serialize().equals(snapshot), `a reader's snapshot, seed ${seed}`).toBe(true)
      reader.exec('COMMIT')
      snapshot = undefined
    }

    source.commit((database) => workload.begin(database))
    for (let i = 0; i < STEPS; i++) {
      source.commit((database) => workload.step(database))
      if (random.below(2) === 0) applyAll()
      if (random.below(5) === 0) turnReader()
      if (random.below(10) === 0) replica.reopenApplier()
    }
    applyAll()
    expect(replica.connection.pragma('integrity_check', { simple: true }), `seed ${seed}`).toBe('ok')
    if (snapshot !== undefined) turnReader()
    reader.close()
    replica.close()
    source.close()
    expect(fs.readFileSync(replicaPath).equals(fs.readFileSync(primaryPath)), `files, seed ${seed}`).toBe(true)
  },
)
