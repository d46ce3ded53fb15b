/**
 * LiteFS and Litefleet nodes in one election: the office goes from one kind to the other and back, planned and not (design D12).
 *
 * Real: LiteFS 0.5.14 with its mount, Consul, nodes as processes, the sqlite3 shell on the mount.
 * What is not promised here: LiteFS keeps no epochs and asks nobody, so that a stale LiteFS node may win an election. Every test has both sides level
 * before the office moves.
 */
import { formatPosition } from '@litefleet/core'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ConsulServer } from '../support/consul.ts'
import { CONSUL, isBuilt } from '../support/go-programs.ts'
import { LiteFsNode, whyNoLiteFs } from '../support/litefs.ts'
import { ProcessCluster } from '../support/process-cluster.ts'

const NAME = 'app.db'
const CREATE =
  'PRAGMA journal_mode = wal; CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT); INSERT INTO note (text) VALUES ("first")'
const INSERT = 'INSERT INTO note (text) VALUES (?)'
const TEXTS = 'SELECT text FROM note ORDER BY id'
const POLL = { timeout: 60_000, interval: 50 }

let consul: ConsulServer
let litefs: LiteFsNode
let cluster: ProcessCluster

describe.skipIf(whyNoLiteFs() !== undefined || !isBuilt(CONSUL))('with a real LiteFS and a real Consul', () => {
  beforeEach(async () => {
    consul = await ConsulServer.start()
    cluster = new ProcessCluster({ database: NAME })
  })
  afterEach(async () => {
    await cluster.close()
    await litefs.close()
    await consul.close()
  })

  function startNode(index: number): Promise<unknown> {
    const lease = { kind: 'consul' as const, url: consul.url, key: 'mixed', ttlMs: 10_000, lockDelayMs: 1_000 }
    return cluster.startNode(index, { lease, interop: { handoff: true } })
  }

  async function textsOf(index: number): Promise<readonly unknown[]> {
    return (await cluster.node(index).read(NAME, TEXTS)).map(([text]) => text)
  }

  async function textsOfLiteFs(): Promise<readonly string[]> {
    return (await litefs.sql(NAME, TEXTS)).split('\n')
  }

  /** Both sides have the same, page by page: the position carries a checksum of the whole database. */
  async function areLevel(index: number): Promise<void> {
    await expect
      .poll(async () => {
        const [ours, theirs] = [(await cluster.node(index).facts(NAME)).position, litefs.position(NAME)]
        return theirs !== undefined && formatPosition(ours) === formatPosition(theirs)
      }, POLL)
      .toBe(true)
  }

  test('the office is handed from LiteFS to a node and back, and nothing is lost or doubled', async () => {
    litefs = await LiteFsNode.electedBy(consul.url, 'mixed', { name: 'litefs-a' })
    await litefs.sql(NAME, CREATE)
    await startNode(0)
    await expect.poll(() => textsOf(0), POLL).toEqual(['first'])
    await expect(cluster.node(0).run(NAME, INSERT, ['too early'])).rejects.toMatchObject({
      code: 'PRIMARY_IS_LITEFS',
      outcome: 'not-applied',
    })
    for (let round = 1; round <= 3; round++) {
      await areLevel(0)
      await cluster.node(0).promote({ timeoutMs: 20_000 })
      expect(await cluster.elected([0])).toBe(0)
      await cluster.node(0).run(NAME, INSERT, [`by the node ${round}`])
      await expect.poll(async () => (await textsOfLiteFs()).at(-1), POLL).toBe(`by the node ${round}`)
      expect(await litefs.state()).toEqual({ isPrimary: false, hostname: 'node-0' })
      // The way of LiteFS: it asks the primary for its office.
      expect(await litefs.post('/promote')).toEqual({ status: 200, text: '' })
      await expect.poll(async () => (await litefs.state()).isPrimary, POLL).toBe(true)
      await litefs.sql(NAME, `INSERT INTO note (text) VALUES ('by LiteFS ${round}')`)
      await expect.poll(async () => (await textsOf(0)).at(-1), POLL).toBe(`by LiteFS ${round}`)
      expect((await cluster.node(0).status()).role).toBe('replica')
    }
    await areLevel(0)
    expect(await textsOf(0)).toEqual(['first', ...[1, 2, 3].flatMap((n) => [`by the node ${n}`, `by LiteFS ${n}`])])
    expect(await textsOfLiteFs()).toEqual(await textsOf(0))
    expect(await cluster.node(0).facts(NAME)).toMatchObject({ divergences: 0 })
    expect(cluster.warningsOf('handoff')).toEqual([])
  })

  test('who dies is followed by the other kind', async () => {
    litefs = await LiteFsNode.electedBy(consul.url, 'mixed', { name: 'litefs-a' })
    await litefs.sql(NAME, CREATE)
    await startNode(0)
    await areLevel(0)
    await litefs.kill()
    expect(await cluster.elected([0])).toBe(0)
    await cluster.node(0).run(NAME, INSERT, ['after the crash of LiteFS'])
    await litefs.start()
    await expect.poll(textsOfLiteFs, POLL).toEqual(['first', 'after the crash of LiteFS'])
    await areLevel(0)
    await cluster.node(0).kill()
    await expect.poll(async () => (await litefs.state()).isPrimary, POLL).toBe(true)
    await litefs.sql(NAME, "INSERT INTO note (text) VALUES ('after the crash of the node')")
    await startNode(0)
    await areLevel(0)
    expect(await textsOf(0)).toEqual(['first', 'after the crash of LiteFS', 'after the crash of the node'])
    expect(await cluster.node(0).facts(NAME)).toMatchObject({ divergences: 0 })
  })

  test('an office that comes with more than the node has is not taken, and LiteFS has it again', async () => {
    litefs = await LiteFsNode.electedBy(consul.url, 'mixed', { name: 'litefs-a' })
    await litefs.sql(NAME, CREATE)
    await litefs.sql('other.db', CREATE)
    await startNode(0)
    await areLevel(0)
    await expect(cluster.node(0).promote({ timeoutMs: 20_000 })).rejects.toThrow(
      /HANDOFF_FAILED.*it has other\.db at [0-9a-f]{16}\/[0-9a-f]{16}/,
    )
    await expect.poll(async () => (await litefs.state()).isPrimary, POLL).toBe(true)
    await litefs.sql('other.db', "INSERT INTO note (text) VALUES ('second')")
    expect(await litefs.sql('other.db', TEXTS)).toBe('first\nsecond')
    expect((await cluster.node(0).status()).role).toBe('replica')
    expect(cluster.warningsOf('handoff')).toMatchObject([{ message: expect.stringContaining('other.db') }])
  })

  test('LiteFS cannot have the office of a node that did not switch that on', async () => {
    const lease = { kind: 'consul' as const, url: consul.url, key: 'mixed', ttlMs: 10_000, lockDelayMs: 1_000 }
    await cluster.startNode(0, { lease, interop: true })
    expect(await cluster.elected()).toBe(0)
    litefs = await LiteFsNode.electedBy(consul.url, 'mixed', { name: 'litefs-a' })
    expect(await litefs.post('/promote')).toMatchObject({
      status: 500,
      text: 'handoff failed: invalid response: code=403\n',
    })
    await cluster.node(0).stop()
    await expect.poll(async () => (await litefs.state()).isPrimary, POLL).toBe(true)
  })
})
