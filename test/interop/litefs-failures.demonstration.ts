/**
 * How the real LiteFS 0.5.14 fails where Litefleet does not (test/cluster/where-litefs-breaks.cluster.test.ts). Not part of the tests: `pnpm litefs-failures`.
 *
 * A failure that does not show any more fails here: then docs/litefs.md has to be put right. Each has a time limit.
 */
import { formatPosition } from '@litefleet/core'
import { afterEach, expect, test } from 'vitest'
import { setTimeout as sleep } from 'node:timers/promises'
import { LtxRecordBuilder } from '../../packages/core/src/ltx/ltx-encoder.ts'
import { PageChecksums } from '../../packages/core/src/ltx/page-checksums.ts'
import { nextTxid } from '../../packages/core/src/position/txid.ts'
import { LiteFsNode } from '../support/litefs.ts'
import { ShellSession } from '../support/shell-session.ts'

const NAME = 'app.db'
const OTHER = 'other.db'
const CREATE = (mode: string): string =>
  `PRAGMA journal_mode = ${mode}; CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT)`
const FILL = (rows: number): string =>
  `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${rows}) INSERT INTO note (body) SELECT hex(randomblob(200)) FROM n`
const COUNT = 'SELECT count(*) FROM note'
const LIMIT_MS = 60_000

const nodes: LiteFsNode[] = []
afterEach(async () => {
  for (const node of nodes.splice(0)) await node.close()
})

async function primary(mode = 'wal'): Promise<LiteFsNode> {
  const node = await LiteFsNode.start()
  nodes.push(node)
  await node.sql(NAME, CREATE(mode))
  return node
}

async function replicaOf(of: LiteFsNode): Promise<LiteFsNode> {
  const node = await LiteFsNode.replicaOf(of.url)
  nodes.push(node)
  return node
}

/** Text, or `none`. */
function positionOf(node: LiteFsNode, name = NAME): string {
  const position = node.position(name)
  return position === undefined ? 'none' : formatPosition(position)
}

test(
  'VACUUM of a WAL database that shrinks: commits succeed, the position stands still, a restart loses them',
  async () => {
    const node = await primary()
    await node.sql(NAME, FILL(3_000))
    await node.sql(NAME, 'DELETE FROM note WHERE id > 10')
    const before = positionOf(node)
    // Of one program: another one finds the database locked now and then.
    expect(await node.sql(NAME, `VACUUM; INSERT INTO note (body) VALUES ('acknowledged'); ${COUNT}`)).toBe('11')
    expect(positionOf(node)).toBe(before)
    await node.kill()
    await node.start()
    expect(await node.sql(NAME, "SELECT count(*) FROM note WHERE body = 'acknowledged'")).toBe('0')
  },
  LIMIT_MS,
)

test(
  'a read transaction on a replica stops all its databases',
  async () => {
    const from = await primary()
    await from.sql(OTHER, CREATE('wal'))
    const replica = await replicaOf(from)
    await expect.poll(() => positionOf(replica, OTHER)).toBe(positionOf(from, OTHER))
    await using reader = new ShellSession(`${replica.mount}/${NAME}`)
    reader.send('BEGIN')
    expect(await reader.ask(COUNT)).toBe('0')
    await from.sql(NAME, FILL(1))
    await from.sql(OTHER, FILL(1))
    await sleep(3_000)
    expect(positionOf(replica)).not.toBe(positionOf(from))
    expect(positionOf(replica, OTHER)).not.toBe(positionOf(from, OTHER))
    reader.send('COMMIT')
    await expect.poll(() => positionOf(replica, OTHER), { timeout: 10_000 }).toBe(positionOf(from, OTHER))
  },
  LIMIT_MS,
)

test(
  'another page size: VACUUM reports success, the next write fails, and the node does not start any more',
  async () => {
    const node = await primary('delete')
    await node.sql(NAME, `${FILL(10)}; PRAGMA page_size = 8192; VACUUM`)
    await expect(node.sql(NAME, FILL(1))).rejects.toThrow(/disk I\/O error/)
    await node.stop()
    await expect(node.start()).rejects.toThrow(/does not serve/)
  },
  LIMIT_MS,
)

test.each(['MEMORY', 'OFF'])(
  'journal_mode %s: commits succeed and are replicated to nobody',
  async (mode) => {
    const node = await primary('delete')
    const before = positionOf(node)
    await node.sql(NAME, `PRAGMA journal_mode = ${mode}; ${FILL(5)}`)
    expect(await node.sql(NAME, COUNT)).toBe('5')
    expect(positionOf(node)).toBe(before)
  },
  LIMIT_MS,
)

test(
  'from WAL back to a rollback journal: the primary writes a transaction at which its replicas exit',
  async () => {
    const from = await primary('delete')
    await from.sql(NAME, FILL(50))
    const replica = await replicaOf(from)
    await expect.poll(() => positionOf(replica)).toBe(positionOf(from))
    await from.sql(NAME, `PRAGMA journal_mode = wal; ${FILL(10)}`)
    await expect.poll(() => positionOf(replica)).toBe(positionOf(from))
    await from.sql(NAME, `PRAGMA journal_mode = delete; ${FILL(10)}`)
    await expect
      .poll(() => replica.printed, { timeout: 10_000 })
      .toMatch(/fatal error.*does not match LTX post-apply checksum/)
  },
  LIMIT_MS,
)

test(
  'anybody may put in a transaction by /tx, without a HALT lock',
  async () => {
    const node = await primary('delete')
    const image = Buffer.from(await (await fetch(`${node.url}/export?name=${NAME}`)).arrayBuffer())
    const position = node.position(NAME)!
    const pageSize = 4096
    const checksums = new PageChecksums(pageSize)
    const pages = image.length / pageSize
    const all = Uint32Array.from({ length: pages }, (_, i) => i + 1)
    const builderOf = (pageCount: number): LtxRecordBuilder => {
      const txid = nextTxid(position.txid)
      const noWal = { walOffset: 0, walBytes: 0, walSalt1: 0, walSalt2: 0 }
      const txids = { minTxid: txid, maxTxid: txid, preApplyChecksum: position.checksum }
      return new LtxRecordBuilder({
        pageSize,
        commit: pages,
        ...txids,
        timestampMs: 0,
        ...noWal,
        nodeId: 7n,
        pageCount,
      })
    }
    const whole = builderOf(pages)
    for (const pgno of all) whole.addPage(pgno, image, (pgno - 1) * pageSize)
    expect(checksums.apply(all, whole.pageChecksums, pages)).toBe(position.checksum)
    const changed = Buffer.from(image.subarray(0, pageSize))
    changed.writeUInt32BE(4711, 60) // the user version
    const forged = builderOf(1)
    forged.addPage(1, changed, 0)
    const record = forged.finish(checksums.apply(Uint32Array.of(1), forged.pageChecksums, pages))
    const response = await fetch(`${node.url}/tx?name=${NAME}&lockID=1`, {
      method: 'POST',
      body: new Uint8Array(record.bytes),
    })
    expect(response.status).toBe(200)
    expect(await node.sql(NAME, 'PRAGMA user_version')).toBe('4711')
  },
  LIMIT_MS,
)
