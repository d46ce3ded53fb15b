/**
 * A real LiteFS replica follows a Litefleet primary: its application reads the mount and finds what was committed here, byte for byte.
 *
 * Real: LiteFS 0.5.14 with its mount, read by the sqlite3 shell; nodes as processes. LiteFS checks every transaction against its own checksum of the whole
 * database and exits when one does not fit, so that it is alive and level says that all of them do.
 */
import { cpSync, rmSync } from 'node:fs'
import path from 'node:path'
import { formatPosition } from '@litefleet/core'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { differingPages, imageOf } from '../support/images.ts'
import { LiteFsNode, whyNoLiteFs } from '../support/litefs.ts'
import { ProcessCluster } from '../support/process-cluster.ts'

const NAME = 'app.db'
const OTHER = 'other.db'
const CREATE = 'CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT)'
const POLL = { timeout: 30_000, interval: 20 }
const PRIMARY = { lease: { kind: 'static', primary: true }, interop: true } as const

describe.skipIf(whyNoLiteFs() !== undefined)('with a real LiteFS', () => {
  let litefs: LiteFsNode | undefined
  let cluster: ProcessCluster

  beforeEach(() => {
    cluster = new ProcessCluster({ database: NAME, moreDatabases: [OTHER] })
  })
  afterEach(async () => {
    await cluster.close()
    await litefs?.close()
    litefs = undefined
  })

  async function fill(rows: number, name = NAME): Promise<void> {
    const insert = { sql: 'INSERT INTO note (body) VALUES (hex(randomblob(200)))' }
    await cluster.node(0).batch(
      name,
      Array.from({ length: rows }, () => insert),
    )
  }

  async function startLiteFs(): Promise<LiteFsNode> {
    litefs = await LiteFsNode.replicaOf(cluster.urlOf(0))
    return litefs
  }

  /** The mount is where the primary is, and so is every page of it. */
  async function arrived(name = NAME): Promise<void> {
    const { position, pageSize } = await cluster.node(0).facts(name)
    await expect.poll(() => formatPosition(litefs?.position(name) ?? position0), POLL).toBe(formatPosition(position))
    expect(await litefs!.sql(name, 'PRAGMA integrity_check')).toBe('ok')
    const [ours, theirs] = await Promise.all([exportOf(cluster.urlOf(0), name), exportOf(litefs!.url, name)])
    expect(differingPages(ours, theirs, pageSize)).toBe('')
    if (name === NAME) expect(differingPages(ours, imageOf(cluster.fileOf(0)), pageSize)).toBe('')
  }

  test('snapshot, transactions of every kind, restarts of either side', async () => {
    await cluster.startNode(0, PRIMARY)
    await cluster.node(0).run(NAME, CREATE)
    await fill(300)
    await startLiteFs()
    await arrived()
    await fill(1)
    await cluster
      .node(0)
      .batch(NAME, [
        { sql: 'CREATE INDEX note_body ON note (body)' },
        { sql: "UPDATE note SET body = 'x' WHERE id % 3 = 0" },
        { sql: 'DELETE FROM note WHERE id % 5 = 0' },
      ])
    for (let i = 0; i < 50; i++) await fill(1)
    await arrived()
    await cluster.node(0).run(NAME, 'DELETE FROM note WHERE id > 20')
    await cluster.node(0).run(NAME, 'VACUUM')
    await fill(3)
    await arrived()
    expect(await litefs!.sql(NAME, 'SELECT count(*) FROM note')).toBe('19')
    await litefs!.stop()
    await fill(10)
    await litefs!.start()
    await arrived()
    await litefs!.kill()
    await fill(10)
    await litefs!.start()
    await arrived()
    await cluster.node(0).stop()
    await cluster.startNode(0, PRIMARY)
    await fill(10)
    await arrived()
    await cluster.node(0).kill()
    await cluster.startNode(0, PRIMARY)
    await fill(10)
    await arrived()
    expect(await litefs!.sql(NAME, 'SELECT count(*) FROM note')).toBe('59')
    expect(litefs!.printed).not.toMatch(/fatal|mismatch/)
  })

  test('several databases, a transaction of many pages, and what other programs commit', async () => {
    await cluster.startNode(0, PRIMARY)
    for (const name of [NAME, OTHER]) await cluster.node(0).run(name, CREATE)
    await startLiteFs()
    await fill(5_000)
    await fill(20, OTHER)
    await arrived()
    await arrived(OTHER)
    expect(await litefs!.sql(OTHER, 'SELECT count(*) FROM note')).toBe('20')
    await cluster.node(0).run(NAME, 'UPDATE note SET body = hex(randomblob(1500))')
    await arrived()
  })

  test('a LiteFS replica cannot write, is never counted, and is listed as such', async () => {
    await cluster.startNode(0, PRIMARY)
    await cluster.node(0).run(NAME, CREATE)
    await startLiteFs()
    await arrived()
    await expect(litefs!.sql(NAME, "INSERT INTO note (body) VALUES ('x')")).rejects.toThrow(/disk I\/O error|readonly/)
    const statement = [{ sql: "INSERT INTO note (body) VALUES ('y')" }]
    await expect(
      cluster.node(0).batch(NAME, statement, { await: { replicas: 1 }, timeoutMs: 500 }),
    ).rejects.toMatchObject({ code: 'NOT_YET_VISIBLE', outcome: 'applied' })
    await arrived()
    expect(await cluster.node(0).batch(NAME, statement, { await: 'all' })).toMatchObject({ level: 'all' })
    const isListed = { nodeName: expect.stringMatching(/^[0-9A-F]{16}$/), counted: false }
    expect((await cluster.node(0).facts(NAME)).replicas).toMatchObject([isListed])
    await litefs!.stop()
    await expect.poll(async () => (await cluster.node(0).facts(NAME)).replicas, POLL).toEqual([])
  })

  test('a replica that is ahead of a primary from an older backup is brought back by a snapshot', async () => {
    await cluster.startNode(0, PRIMARY)
    await cluster.node(0).run(NAME, CREATE)
    await fill(10)
    await startLiteFs()
    await arrived()
    await cluster.node(0).stop()
    const backup = path.join(cluster.directory, 'backup')
    cpSync(cluster.dataDirOf(0), backup, { recursive: true })
    await cluster.startNode(0, PRIMARY)
    for (let i = 0; i < 5; i++) await fill(1)
    await arrived()
    await cluster.node(0).stop()
    rmSync(cluster.dataDirOf(0), { recursive: true })
    cpSync(backup, cluster.dataDirOf(0), { recursive: true })
    await cluster.startNode(0, PRIMARY)
    await arrived()
    await fill(1)
    await arrived()
    expect(await litefs!.sql(NAME, 'SELECT count(*) FROM note')).toBe('11')
  })
})

const position0 = { txid: 0n, checksum: 0n } as Parameters<typeof formatPosition>[0]

async function exportOf(url: string, name: string): Promise<Buffer> {
  const response = await fetch(`${url}/export?name=${name}`)
  expect(response.status).toBe(200)
  return Buffer.from(await response.arrayBuffer())
}
