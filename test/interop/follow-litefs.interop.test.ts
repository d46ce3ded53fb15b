/**
 * Nodes follow a real LiteFS primary: whatever its application does, they have it byte for byte.
 *
 * Real: LiteFS 0.5.14 with its mount, which the sqlite3 shell writes to; nodes as processes, stopped, killed and started again. Every answer is
 * compared as the file that both sides export, and by the position, which carries LiteFS's own checksum of the whole database.
 */
import { cpSync, rmSync } from 'node:fs'
import path from 'node:path'
import { formatPosition } from '@litefleet/core'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { LiteFsNode, type LiteFsOptions, whyNoLiteFs } from '../support/litefs.ts'
import { ProcessCluster } from '../support/process-cluster.ts'

const NAME = 'app.db'
const OTHER = 'other.db'
const POLL = { timeout: 30_000, interval: 20 }
const FILL = (rows: number): string =>
  `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${rows}) INSERT INTO note (body) SELECT hex(randomblob(200)) FROM n`

describe.skipIf(whyNoLiteFs() !== undefined)('with a real LiteFS', () => {
  let litefs: LiteFsNode
  let cluster: ProcessCluster

  beforeEach(() => {
    cluster = new ProcessCluster({ database: NAME })
  })
  afterEach(async () => {
    await cluster.close()
    await litefs.close()
  })

  async function startLiteFs(journalMode: 'wal' | 'delete' | 'truncate' | 'persist', options?: LiteFsOptions) {
    litefs = await LiteFsNode.start(options)
    await litefs.sql(
      NAME,
      `PRAGMA journal_mode = ${journalMode}; CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT)`,
    )
  }

  async function startNode(): Promise<void> {
    await cluster.startNode(0, { lease: { kind: 'static', primary: { url: litefs.url } }, interop: true })
  }

  async function arrived(name = NAME): Promise<void> {
    await expect
      .poll(async () => {
        const [ours, theirs] = [(await cluster.node(0).facts(name)).position, litefs.position(name)]
        return theirs === undefined ? 'nothing there' : `${formatPosition(ours)} ${formatPosition(theirs)}`
      }, POLL)
      .toMatch(/^(\S+) \1$/)
    const [ours, theirs] = await Promise.all([exportOf(cluster.urlOf(0), name), exportOf(litefs.url, name)])
    expect(ours.equals(theirs), `${name}: ${ours.length} and ${theirs.length} bytes`).toBe(true)
    expect(await cluster.node(0).read(name, 'PRAGMA integrity_check')).toEqual([['ok']])
  }

  async function count(name = NAME): Promise<unknown> {
    return (await cluster.node(0).read(name, 'SELECT count(*) FROM note'))[0]?.[0]
  }

  test.each([
    ['wal', true],
    ['delete', true],
    ['delete', false],
    ['truncate', true],
    ['persist', true],
  ] as const)(
    'a database in journal mode %s (compressed: %s): snapshot, transactions, restarts',
    async (mode, compress) => {
      await startLiteFs(mode, { data: { compress } })
      await litefs.sql(NAME, FILL(300))
      await startNode()
      await arrived()
      expect(await count()).toBe(300)
      await litefs.sql(NAME, FILL(1))
      await litefs.sql(
        NAME,
        `${FILL(200)}; UPDATE note SET body = 'x' WHERE id % 3 = 0; DELETE FROM note WHERE id % 5 = 0`,
      )
      await arrived()
      await cluster.node(0).stop()
      await litefs.sql(NAME, FILL(5))
      await startNode()
      await arrived()
      // An unclean end: the file is hashed, and found in the log.
      await litefs.sql(NAME, FILL(7))
      await arrived()
      await cluster.node(0).kill()
      await litefs.sql(NAME, FILL(11))
      await startNode()
      await arrived()
      await litefs.stop()
      await litefs.start()
      await litefs.sql(NAME, FILL(13))
      await arrived()
      expect(await cluster.node(0).facts(NAME)).toMatchObject({ divergences: 0, state: 'ready' })
      expect(cluster.warningsOf()).toEqual([])
    },
  )

  test('a rolled-back transaction that had spilled to disk, VACUUM, and a change of the journal mode', async () => {
    await startLiteFs('delete')
    await startNode()
    await litefs.sql(NAME, FILL(2_000))
    await arrived()
    // LiteFS counts a TXID for it although nothing has changed.
    await litefs.sql(NAME, `PRAGMA cache_size = 10; BEGIN; ${FILL(3_000)}; ROLLBACK`)
    await litefs.sql(NAME, FILL(1))
    await arrived()
    await litefs.sql(NAME, 'DELETE FROM note WHERE id > 50; VACUUM')
    await arrived()
    expect(await count()).toBe(50)
    await litefs.sql(NAME, `PRAGMA journal_mode = wal; ${FILL(10)}`)
    await arrived()
    expect(cluster.warningsOf()).toEqual([])
    // On this way back LiteFS makes a transaction whose pages are not those of its checksum: its own replicas end there. Ours is seeded again.
    await litefs.sql(NAME, `PRAGMA journal_mode = delete; ${FILL(10)}`)
    await arrived()
    expect(await count()).toBe(70)
    expect(cluster.warningsOf()).toMatchObject([{ name: 'diverged', message: expect.stringContaining('checksum') }])
  })

  test('several databases, of which one is dropped and made again', async () => {
    cluster = new ProcessCluster({ database: NAME, moreDatabases: [OTHER] })
    await startLiteFs('wal')
    await litefs.sql(OTHER, 'PRAGMA journal_mode = delete; CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT)')
    await startNode()
    await litefs.sql(NAME, FILL(10))
    await litefs.sql(OTHER, FILL(20))
    await arrived()
    await arrived(OTHER)
    expect(await count(OTHER)).toBe(20)
    litefs.drop(OTHER)
    await expect.poll(async () => (await cluster.node(0).facts(OTHER)).state, POLL).toBe('seeding')
    expect((await cluster.node(0).facts(OTHER)).stateReason).toContain('dropped')
    await expect(cluster.node(0).read(OTHER, 'SELECT 1')).rejects.toMatchObject({ code: 'COPY_NOT_WHOLE' })
    await litefs.sql(NAME, FILL(10))
    await arrived()
    // Also a node that was away learns of it.
    await cluster.node(0).stop()
    const dropped = cluster.warningsOf()
    expect(dropped).toMatchObject([{ name: 'dropped' }])
    await litefs.sql(
      OTHER,
      `PRAGMA journal_mode = wal; CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT); ${FILL(30)}`,
    )
    await startNode()
    await arrived(OTHER)
    expect(await count(OTHER)).toBe(30)
  })

  test('a primary that lost its history: what only this node has is reported, and it is seeded again', async () => {
    await startLiteFs('wal')
    await startNode()
    await litefs.sql(NAME, FILL(10))
    await arrived()
    await litefs.stop()
    const kept = path.join(cluster.directory, 'backup')
    cpSync(litefs.dataDir, kept, { recursive: true })
    await litefs.start()
    await litefs.sql(NAME, FILL(5))
    await arrived()
    expect(await count()).toBe(15)
    // An older copy of its data is put back, as from a backup of the volume.
    await litefs.stop()
    rmSync(litefs.dataDir, { recursive: true })
    cpSync(kept, litefs.dataDir, { recursive: true })
    await litefs.start()
    await litefs.sql(NAME, FILL(1))
    await arrived()
    expect(await count()).toBe(11)
    expect(await cluster.node(0).facts(NAME)).toMatchObject({ divergences: 1 })
  })

  test('a node that was a replica of LiteFS goes on as the primary, in WAL mode', async () => {
    await startLiteFs('delete')
    await litefs.sql(NAME, FILL(100))
    await startNode()
    await arrived()
    const before = litefs.position(NAME)!
    await cluster.node(0).stop()
    await litefs.stop()
    await cluster.startNode(0, { lease: { kind: 'static', primary: true }, interop: true })
    const { position } = await cluster.node(0).facts(NAME)
    expect(position.txid).toBe(before.txid + 1n)
    await cluster.node(0).run(NAME, "INSERT INTO note (body) VALUES ('by the node')")
    const image = await exportOf(cluster.urlOf(0), NAME)
    expect([image[18], image[19]]).toEqual([2, 2])
    await cluster.startNode(1, { lease: { kind: 'static', primary: { url: cluster.urlOf(0) } } })
    await cluster.expectEqual(1)
    expect(await cluster.node(1).read(NAME, 'SELECT count(*) FROM note')).toEqual([[101]])
  })
})

async function exportOf(url: string, name: string): Promise<Buffer> {
  const response = await fetch(`${url}/export?name=${name}`)
  expect(response.status).toBe(200)
  return Buffer.from(await response.arrayBuffer())
}
