import http2 from 'node:http2'
import { afterEach, describe, expect, test } from 'vitest'
import { decodeLtxRecord } from '../ltx/ltx-record.ts'
import { databaseName } from '../request/database-name.ts'
import type { SnapshotSpool } from './snapshot-spool.ts'
import { fakeLtx, fakePosition } from './test-support/fake-database.ts'
import { FakeNode } from './test-support/fake-node.ts'
import { ManualClock } from '../base/test-support/manual-clock.ts'
import { RawReplica, rawPositionMap } from './test-support/raw-client.ts'
import { settle, until } from './test-support/until.ts'

const nodes: FakeNode[] = []
const replicas: RawReplica[] = []
const OURS = { 'litefleet-node': 'b', 'litefleet-protocol': '1' }

async function start(...args: Parameters<typeof FakeNode.start>): Promise<FakeNode> {
  const node = await FakeNode.start(...args)
  nodes.push(node)
  return node
}

function connect(...args: ConstructorParameters<typeof RawReplica>): RawReplica {
  const replica = new RawReplica(...args)
  replicas.push(replica)
  return replica
}

/** One entry of a position map. */
function at(name: string, txid: number, history = 1): readonly [string, string, string] {
  const position = fakePosition(txid, history)
  return [name, position.txid.toString(16), position.checksum.toString(16)]
}

afterEach(async () => {
  await Promise.all(replicas.splice(0).map((replica) => replica.close()))
  await Promise.all(nodes.splice(0).map((node) => node.server.close()))
})

describe('the bytes of the body', () => {
  test('are LiteFS’s: LTX, HWM, READY, HEARTBEAT', async () => {
    const clock = new ManualClock(0x0102030405)
    const node = await start({ clock })
    const database = node.create('n.db', 6)
    database.records.set(7n, fakeLtx(7, 7, 20))
    database.announce()
    database.hwm = 5n
    const replica = connect(node.url, rawPositionMap(at('n.db', 6)))
    await until(() => replica.count('HEARTBEAT') === 1)
    const ltx = fakeLtx(7, 7, 20).toString('hex')
    expect(replica.bytes.toString('hex')).toBe(
      [
        '00000001 0000000000000000 00000004 6e2e6462', // LTX, size 0, "n.db"
        `0088 ${ltx} 0000`, // one chunk of 136 bytes, end
        '00000006 0000000000000005 00000004 6e2e6462', // HWM, TXID before name
        '00000002', // READY
        '00000007 0000000102030405', // HEARTBEAT
      ]
        .join('')
        .replaceAll(' ', ''),
    )
  })

  test('a real LTX arrives as the log holds it', async () => {
    const snapshot = Buffer.from(
      '4c5458310000000100000200000000020000000000000001000000000000000100000000000003e8000000000000000000000000000000000000000000000000' +
        '000000000000000011223344556677880000000000000000000000000000000000000000' +
        '04224d186440a7200000005f00000001000100fff02f02610100ffe2000200b0616161616161610000000000000000948c81d7947b245888888888df40583505a20872',
      'hex',
    )
    const node = await start()
    const database = node.create('n.db', 1)
    database.openSnapshot = (): Promise<SnapshotSpool> =>
      Promise.resolve({
        position: fakePosition(1),
        sizeBytes: snapshot.length,
        done: Promise.resolve(),
        async *read() {
          for (const byte of snapshot) yield Buffer.of(byte)
        },
        close: () => undefined,
      })
    const replica = connect(node.url, rawPositionMap())
    await until(() => replica.count('READY') === 1)
    expect(replica.ltx()[0]?.equals(snapshot)).toBe(true)
    expect(decodeLtxRecord(replica.ltx()[0]!).commit).toBe(2)
  })

  test('a record longer than a batch goes out whole, and one of exactly one chunk too', async () => {
    const node = await start({ options: { batchBytes: 16_384 } })
    const database = node.create('n.db', 1)
    for (const payload of [65_535 - 116, 65_536 - 116, 1_000_000, 10]) database.commitSilently(payload)
    database.announce()
    const replica = connect(node.url, rawPositionMap(at('n.db', 1)))
    await until(() => replica.count('READY') === 1)
    expect(replica.ltx().map((ltx) => ltx.length)).toEqual([65_535, 65_536, 1_000_116, 126])
    for (const [i, ltx] of replica.ltx().entries()) expect(ltx.equals(database.records.get(BigInt(i + 2))!)).toBe(true)
  })
})

describe('what a replica is missing', () => {
  test('nothing when it is at the same position', async () => {
    const node = await start()
    node.create('n.db', 3)
    const replica = connect(node.url, rawPositionMap(at('n.db', 3)))
    await until(() => replica.count('HEARTBEAT') === 1)
    expect(replica.types).toBe('READY HEARTBEAT')
  })

  test('each record after its position, each followed by a high-water mark for LiteFS', async () => {
    const node = await start()
    const database = node.create('n.db', 5)
    const replica = connect(node.url, rawPositionMap(at('n.db', 2)))
    await until(() => replica.count('HEARTBEAT') === 1)
    expect(replica.types).toBe('LTX HWM LTX HWM LTX HWM READY HEARTBEAT')
    expect(replica.ltx()).toEqual([3n, 4n, 5n].map((txid) => database.records.get(txid)))
  })

  test('a Litefleet replica gets no high-water marks', async () => {
    const node = await start()
    node.create('n.db', 5)
    const replica = connect(node.url, rawPositionMap(at('n.db', 2)), { headers: OURS })
    await until(() => replica.count('HEARTBEAT') === 1)
    expect(replica.types).toBe('LTX LTX LTX READY HEARTBEAT')
  })

  test('a database at TXID 0 yields nothing, even to a replica that has data for it', async () => {
    const node = await start()
    node.create('n.db')
    const replica = connect(node.url, rawPositionMap(at('n.db', 9)))
    await until(() => replica.count('HEARTBEAT') === 1)
    expect(replica.types).toBe('READY HEARTBEAT')
  })

  test('a database this node does not have yields DROPDB, once', async () => {
    const clock = new ManualClock()
    const node = await start({ clock })
    const replica = connect(node.url, rawPositionMap(at('gone.db', 4)))
    await until(() => replica.count('HEARTBEAT') === 1)
    clock.advance(1000)
    await until(() => replica.count('HEARTBEAT') === 2)
    expect(replica.types).toBe('DROPDB READY HEARTBEAT HEARTBEAT')
    expect(replica.frames[0]?.name).toBe('gone.db')
  })

  describe('a snapshot, without a high-water mark,', () => {
    const cases = [
      ['when its TXID is 0', [], () => undefined],
      ['also when only TXID 1 is missing', [], () => undefined],
      ['when its TXID is ahead', [at('n.db', 9)], () => undefined],
      ['when its checksum differs at the same TXID', [at('n.db', 3, 2)], () => undefined],
      ['when its checksum differs at an older TXID', [at('n.db', 2, 2)], () => undefined],
      ['when the next record is gone', [at('n.db', 2)], (n: { goneUpTo: bigint }) => void (n.goneUpTo = 3n)],
    ] as const
    test.each(cases)('%s', async (title, positions, prepare) => {
      const node = await start()
      const database = node.create('n.db', title.includes('TXID 1') ? 1 : 3)
      prepare(database)
      const replica = connect(node.url, rawPositionMap(...positions))
      await until(() => replica.count('HEARTBEAT') === 1)
      expect(replica.types).toBe('LTX READY HEARTBEAT')
      expect(replica.ltx()[0]?.equals(fakeLtx(1, Number(database.position.txid), 300))).toBe(true)
      database.commit()
      await until(() => replica.count('LTX') === 2)
      await until(() => database.openSpools === 0)
    })
  })

  test('what was committed while a snapshot was sent follows it', async () => {
    const node = await start()
    const database = node.create('n.db', 2)
    database.snapshotPayloadBytes = 3_000_000
    const replica = connect(node.url, rawPositionMap(), { read: false })
    await until(() => (node.server.streams()[0]?.unsentBytes ?? 0) > 0)
    database.commit(2)
    expect(node.server.slowestTxid(databaseName('n.db'))).toBe(2n) // retention keeps what follows the snapshot
    replica.read()
    await until(() => replica.count('READY') === 1)
    expect(replica.types).toMatch(/^LTX LTX HWM LTX HWM READY|^LTX READY (HEARTBEAT )?LTX HWM LTX HWM/)
  })

  test('a snapshot that fails on the way breaks the stream instead of ending it', async () => {
    const node = await start()
    const database = node.create('n.db', 2)
    database.snapshotPayloadBytes = 3_000_000
    database.failSnapshot = true
    const replica = connect(node.url, rawPositionMap())
    await until(() => replica.isClosed)
    expect(replica.stream.rstCode).toBe(http2.constants.NGHTTP2_INTERNAL_ERROR)
    expect(replica.types).toBe('')
    await until(() => database.openSpools === 0 && node.failures.length === 1)
  })
})

test('a stream that is ended within a snapshot is reset: END would say that the snapshot is whole', async () => {
  const node = await start()
  const database = node.create('n.db', 2)
  database.snapshotPayloadBytes = 3_000_000
  const replica = connect(node.url, rawPositionMap(), { read: false })
  await until(() => (node.server.streams()[0]?.unsentBytes ?? 0) > 0)
  node.server.endStreams()
  replica.read()
  await until(() => replica.isClosed && database.openSpools === 0)
  expect([replica.stream.rstCode, replica.types]).toEqual([http2.constants.NGHTTP2_INTERNAL_ERROR, ''])
  expect(node.failures).toEqual([])
})

describe('after READY', () => {
  test('records follow their commit, and a database without changes sends none', async () => {
    const node = await start()
    const a = node.create('a.db', 1)
    node.create('b.db', 1)
    const replica = connect(node.url, rawPositionMap(at('a.db', 1), at('b.db', 1)))
    await until(() => replica.count('READY') === 1)
    a.commit()
    await until(() => replica.count('LTX') === 1)
    a.commit(3)
    await until(() => replica.count('LTX') === 4)
    expect(replica.ltx()).toEqual([2n, 3n, 4n, 5n].map((txid) => a.records.get(txid)))
    expect(node.server.streams()[0]?.positions.get('a.db')).toEqual(fakePosition(5))
  })

  test('a database that appears is sent', async () => {
    const node = await start()
    const replica = connect(node.url, rawPositionMap())
    await until(() => replica.count('READY') === 1)
    const late = node.create('late.db')
    late.commit(2)
    await until(() => replica.count('LTX') === 1)
    expect(replica.frames.find((frame) => frame.type === 'LTX')?.name).toBe('late.db')
  })

  test('a filter restricts everything to its databases', async () => {
    const node = await start()
    const databases = ['a.db', 'b.db', 'c d.db'].map((name) => node.create(name, 2))
    const replica = connect(node.url, rawPositionMap(at('gone.db', 1), at('a.db', 1)), {
      path: '/stream?filter=b.db,c%20d.db',
    })
    await until(() => replica.count('READY') === 1)
    for (const database of databases) database.commit()
    await until(() => replica.count('LTX') === 4)
    expect(new Set(replica.frames.flatMap((frame) => frame.name ?? []))).toEqual(new Set(['b.db', 'c d.db']))
  })

  test('a heartbeat tells the clock after each second without a change, and none comes while there are changes', async () => {
    const clock = new ManualClock(50_000)
    const node = await start({ clock })
    const database = node.create('n.db', 1)
    const replica = connect(node.url, rawPositionMap(at('n.db', 1)))
    await until(() => replica.count('HEARTBEAT') === 1)
    for (let i = 1; i <= 3; i++) {
      clock.advance(999)
      database.commit()
      await until(() => replica.count('LTX') === i)
    }
    expect(replica.count('HEARTBEAT')).toBe(1)
    clock.advance(1000)
    await until(() => replica.count('HEARTBEAT') === 2)
    expect(replica.frames.at(-1)).toEqual({ type: 'HEARTBEAT', timestampMs: 50_000n + 3997n })
  })

  test('what the log holds but the node has not announced is not sent', async () => {
    const node = await start()
    const database = node.create('n.db', 2)
    database.commitSilently()
    const replica = connect(node.url, rawPositionMap(at('n.db', 1)))
    await until(() => replica.count('READY') === 1)
    expect(replica.ltx()).toEqual([database.records.get(2n)])
    database.announce()
    await until(() => replica.count('LTX') === 2)
  })

  test('losing the lease ends the stream with END, and nothing announced later goes out', async () => {
    const node = await start()
    const database = node.create('n.db', 1)
    const replica = connect(node.url, rawPositionMap(at('n.db', 1)))
    await until(() => replica.count('HEARTBEAT') === 1)
    node.primary = false
    database.commit()
    await until(() => replica.isClosed)
    expect(replica.types).toBe('READY HEARTBEAT END')
    expect(database.listenerCount).toBe(0)
  })

  test('the node can end all streams', async () => {
    const node = await start()
    const replica = connect(node.url, rawPositionMap())
    await until(() => replica.count('HEARTBEAT') === 1)
    node.server.endStreams()
    await until(() => replica.isClosed)
    expect(replica.types).toBe('READY HEARTBEAT END')
  })
})

describe('while a snapshot is being prepared', () => {
  test('a Litefleet replica gets heartbeats, a LiteFS replica does not', async () => {
    const clock = new ManualClock()
    const node = await start({ clock })
    const prepared = Promise.withResolvers<void>()
    node.create('n.db', 2).beforeSnapshot = () => prepared.promise
    const ours = connect(node.url, rawPositionMap(), { headers: OURS })
    const theirs = connect(node.url, rawPositionMap())
    await until(() => ours.headers !== undefined && theirs.headers !== undefined)
    for (let i = 1; i <= 3; i++) {
      clock.advance(1000)
      await until(() => ours.count('HEARTBEAT') === i)
    }
    prepared.resolve()
    await until(() => ours.count('READY') === 1 && theirs.count('READY') === 1)
    expect([ours.types, theirs.types]).toEqual([
      'HEARTBEAT HEARTBEAT HEARTBEAT LTX READY HEARTBEAT',
      'LTX READY HEARTBEAT',
    ])
  })

  test('other snapshots wait their turn, and a replica that leaves gives its place up', async () => {
    const node = await start({ options: { snapshotBuildsMax: 1 } })
    const database = node.create('n.db', 2)
    const first = Promise.withResolvers<void>()
    database.beforeSnapshot = () => first.promise
    const a = connect(node.url, rawPositionMap())
    await until(() => a.headers !== undefined)
    const b = connect(node.url, rawPositionMap())
    const c = connect(node.url, rawPositionMap())
    await until(() => b.headers !== undefined && c.headers !== undefined)
    await b.close()
    database.beforeSnapshot = () => Promise.resolve()
    await settle()
    expect(c.bytes.length).toBe(0)
    first.resolve()
    await until(() => a.count('READY') === 1 && c.count('READY') === 1)
  })

  test('a stream that is ended meanwhile ends with END', async () => {
    const node = await start()
    const database = node.create('n.db', 2)
    database.beforeSnapshot = () => Promise.reject(new Error('aborted'))
    let opened = false
    database.openSnapshot = (signal) => {
      opened = true
      return new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)))
    }
    const replica = connect(node.url, rawPositionMap())
    await until(() => opened)
    node.server.endStreams()
    await until(() => replica.isClosed)
    expect(replica.types).toBe('END')
  })
})

describe('a replica that does not read', () => {
  test.each(['records', 'snapshot'])(
    'holds at most the bound in memory (%s), and the log is not read further',
    async (what) => {
      const options = { sendBufferBytes: 256 * 1024, batchBytes: 64 * 1024 }
      const node = await start({ options })
      const database = node.create('n.db', 1)
      database.snapshotPayloadBytes = 3_000_000
      database.commit(600, 5000)
      const replica = connect(node.url, rawPositionMap(...(what === 'records' ? [at('n.db', 1)] : [])), { read: false })
      await until(() => (node.server.streams()[0]?.unsentBytes ?? 0) > 0)
      await settle()
      const [stream] = node.server.streams()
      expect(stream!.unsentBytes).toBeGreaterThan(100_000)
      expect(stream!.mostUnsentBytes).toBeLessThanOrEqual(options.sendBufferBytes)
      if (what === 'records') expect(database.readBytes).toBeLessThan(options.sendBufferBytes + 2 * 65_535 + 64 * 1024)
      replica.read()
      await until(() => replica.count('READY') === 1)
      expect(node.server.streams()[0]!.mostUnsentBytes).toBeLessThanOrEqual(options.sendBufferBytes)
    },
  )

  test('is disconnected when it took nothing for the stall timeout; others go on', async () => {
    const clock = new ManualClock()
    const node = await start({ clock, options: { pingIntervalMs: 3_600_000 } })
    const database = node.create('n.db', 2)
    database.snapshotPayloadBytes = 3_000_000
    const stalled = connect(node.url, rawPositionMap(), { read: false })
    stalled.stream.pause()
    await until(() => (node.server.streams()[0]?.unsentBytes ?? 0) > 0)
    const healthy = connect(node.url, rawPositionMap(at('n.db', 2)))
    await until(() => healthy.count('READY') === 1)
    await settle()
    clock.advance(59_000)
    await settle()
    expect(node.server.streams()).toHaveLength(2)
    clock.advance(2000)
    await until(() => node.server.streams().length === 1)
    database.commit()
    await until(() => healthy.count('LTX') === 1)
    await until(() => database.openSpools === 0)
  })
})
