/**
 * What makes LiteFS 0.5.14 lose transactions, stand still or end, and does not do that here. `test/interop/litefs-failures.demonstration.test.ts` shows the
 * same with the real LiteFS; docs/litefs.md has the table.
 *
 * Real: nodes as processes, and other programs (the sqlite3 shell) on their files.
 */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { shell } from '../support/foreign-shell.ts'
import { ProcessCluster } from '../support/process-cluster.ts'
import { ShellSession } from '../support/shell-session.ts'

const NAME = 'app.db'
const OTHER = 'other.db'
const CREATE = 'CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT)'
const INSERT = 'INSERT INTO note (body) VALUES (hex(randomblob(200)))'
const COUNT = 'SELECT count(*) FROM note'
const POLL = { timeout: 30_000, interval: 20 }

let cluster: ProcessCluster

beforeEach(async () => {
  cluster = await ProcessCluster.start(2, { database: NAME })
  await cluster.primary.run(NAME, CREATE)
  await cluster.primary.batch(
    NAME,
    Array.from({ length: 2_000 }, () => ({ sql: INSERT })),
  )
  await cluster.settle(1)
})
afterEach(() => cluster.close())

async function countOn(index: number): Promise<unknown> {
  return (await cluster.node(index).read(NAME, COUNT))[0]?.[0]
}

test('VACUUM of a database in WAL mode that shrinks: what is committed afterwards is there, also after a restart', async () => {
  await cluster.primary.run(NAME, 'DELETE FROM note WHERE id > 10')
  await cluster.primary.run(NAME, 'VACUUM')
  await cluster.primary.run(NAME, INSERT)
  await cluster.expectEqual(1)
  await cluster.node(0).kill()
  await cluster.startNode(0)
  expect(await countOn(0)).toBe(11)
  await cluster.expectEqual(1)
})

test('a read transaction on a replica holds up nothing: neither its database nor lag', async () => {
  await using reader = new ShellSession(cluster.fileOf(1))
  reader.send('BEGIN')
  expect(await reader.ask(COUNT)).toBe('2000')
  await cluster.primary.run(NAME, INSERT)
  await cluster.settle(1)
  expect(await countOn(1)).toBe(2_001)
  expect(await reader.ask(COUNT)).toBe('2000')
})

test('another page size is not taken by a database in WAL mode, and nothing is lost over the attempt', async () => {
  await shell(cluster.fileOf(0), 'PRAGMA page_size = 8192; VACUUM')
  await cluster.primary.run(NAME, INSERT)
  await cluster.expectEqual(1)
  expect(await cluster.node(1).facts(NAME)).toMatchObject({ pageSize: 4096 })
})

test.each(['MEMORY', 'OFF', 'DELETE', 'TRUNCATE'])(
  'a program that asks for journal_mode %s gets WAL, and what it commits is replicated',
  async (mode) => {
    const asked = shell(cluster.fileOf(0), `PRAGMA journal_mode = ${mode}`, 0).catch((error: unknown) => String(error))
    expect(await asked).toMatch(/^wal$|locked/)
    await shell(cluster.fileOf(0), INSERT)
    await expect.poll(() => countOn(1), POLL).toBe(2_001)
    await cluster.expectEqual(1)
  },
)

test('transactions cannot be put in from outside: there is no /tx and no /halt', async () => {
  for (const path of [`/tx?name=${NAME}&lockID=1`, `/halt?name=${NAME}&id=1`]) {
    const response = await fetch(`${cluster.urlOf(0)}${path}`, { method: 'POST', body: 'x' })
    expect(response.status).toBe(404)
  }
})

test('an import that is not a database leaves none behind', async () => {
  const response = await fetch(`${cluster.urlOf(0)}/import?name=${OTHER}`, { method: 'POST', body: 'no database' })
  expect(response.ok).toBe(false)
  const { databases } = await cluster.primary.status()
  expect(databases.map(({ name }) => name)).toEqual([NAME])
})
