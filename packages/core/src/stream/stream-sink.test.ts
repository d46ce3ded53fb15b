import net from 'node:net'
import type { AddressInfo } from 'node:net'
import { epoch, NO_EPOCH } from '../position/epoch.ts'
import { parseLtxHeader } from '../ltx/ltx-header.ts'
import { afterEach, describe, expect, test } from 'vitest'
import { systemClock } from '../base/clock.ts'
import { isClusterError } from '../errors/cluster-error.ts'
import type { ErrorCode } from '../errors/error-table.ts'
import { answerToken } from '../request/cluster-token.ts'
import { type DatabaseName, databaseName } from '../request/database-name.ts'
import { StreamSink, type StreamSinkParts } from './stream-sink.ts'
import { resolveStreamSinkOptions, type StreamSinkOptions } from './stream-sink-options.ts'
import { FakeDatabase, fakeLtx, fakePosition } from './test-support/fake-database.ts'
import { CLUSTER_ID, FakeNode } from './test-support/fake-node.ts'
import { FakeReceiver } from './test-support/fake-receiver.ts'
import { ManualClock } from '../base/test-support/manual-clock.ts'
import { TcpLink } from '../forward/test-support/tcp-link.ts'
import { rawPositionMap } from './test-support/raw-client.ts'
import {
  dropDb,
  END,
  HEADERS,
  handoff,
  heartbeat,
  hwm,
  ltxFrame,
  RawPrimary,
  type RawRequest,
  READY,
} from './test-support/raw-primary.ts'
import { settle, until } from './test-support/until.ts'

const KEY = 'a cluster key of enough length'
const closers: (() => Promise<unknown>)[] = []

interface Failure {
  readonly error: unknown
  readonly database: DatabaseName | undefined
}

function follow(
  url: string,
  databases: Readonly<Record<string, FakeReceiver>>,
  o: Partial<Omit<StreamSinkParts, 'options'>> & { options?: StreamSinkOptions } = {},
): { sink: StreamSink; failures: Failure[] } {
  const failures: Failure[] = []
  const sink = new StreamSink({
    primaryUrl: url,
    nodeId: '00000000000000BB',
    nodeName: 'réplica',
    keys: [],
    interop: false,
    clusterId: () => CLUSTER_ID,
    promised: () => NO_EPOCH,
    adoptClusterId: () => undefined,
    clock: systemClock,
    route: (address) => address,
    random: () => 0,
    onFailure: (error, _delayMs, database) => failures.push({ error, database }),
    ...o,
    options: resolveStreamSinkOptions({ reconnectMinMs: 1, reconnectMaxMs: 20, closeTimeoutMs: 200, ...o.options }),
  })
  for (const [name, receiver] of Object.entries(databases)) sink.follow(databaseName(name), receiver)
  closers.push(() => sink.close())
  return { sink, failures }
}

async function startNode(o: Parameters<typeof FakeNode.start>[0] = {}): Promise<FakeNode> {
  const node = await FakeNode.start(o)
  closers.unshift(() => node.server.close())
  return node
}

async function startPrimary(answer: (request: RawRequest, attempt: number) => void): Promise<RawPrimary> {
  let attempt = 0
  const primary = await RawPrimary.start((request) => answer(request, ++attempt))
  closers.unshift(() => primary.close())
  return primary
}

function hasFailed(failures: readonly Failure[], code: ErrorCode): boolean {
  return failures.some(({ error }) => isClusterError(error, code))
}

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

describe('from a Litefleet primary', () => {
  test('a snapshot arrives whole, then records as they are committed', async () => {
    const node = await startNode()
    const database = node.create('my.db', 3)
    database.snapshotPayloadBytes = 2_000_000
    const receiver = new FakeReceiver()
    const { sink } = follow(node.url, { 'my.db': receiver })
    await until(() => receiver.readyCount === 1)
    expect(receiver.snapshots).toHaveLength(1)
    expect(receiver.snapshots[0]?.equals(fakeLtx(1, 3, 2_000_000))).toBe(true)
    database.commit(2)
    await until(() => receiver.received.length === 2)
    expect(receiver.received).toEqual([4n, 5n].map((txid) => database.records.get(txid)))
    expect(sink.status()).toMatchObject([
      { isConnected: true, isReady: true, recordCount: 2, snapshotCount: 1, lastError: undefined },
    ])
  })

  test('the greeting tells who it is and its epochs', async () => {
    const node = await startNode()
    node.inTerm = epoch(12)
    const database = node.create('a=b;c.db', 5)
    database.epochs = [{ epoch: 7 as never, firstTxid: fakePosition(4).txid, checksumBefore: fakePosition(3).checksum }]
    const receiver = new FakeReceiver()
    follow(node.url, { 'a=b;c.db': receiver })
    await until(() => receiver.readyCount === 1)
    expect(receiver.greetings).toEqual([
      {
        nodeId: '000000000000ABCD',
        clusterId: CLUSTER_ID,
        kind: 'litefleet',
        term: node.inTerm,
        epochs: database.epochs,
        position: fakePosition(5),
        seed: undefined,
      },
    ])
    expect(node.server.streams()).toMatchObject([
      { kind: 'litefleet', nodeName: 'réplica', nodeId: '00000000000000BB', epoch: 4 },
    ])
  })

  test('one of an older epoch than this node promised is refused, until it is in office anew', async () => {
    const node = await startNode()
    node.create('app.db', 3)
    node.inTerm = epoch(6)
    const receiver = new FakeReceiver()
    const { failures } = follow(node.url, { 'app.db': receiver }, { promised: () => epoch(7) })
    await until(() => failures.length > 1)
    expect(failures[0]?.error).toMatchObject({ code: 'PRIMARY_OUTDATED', details: { term: 6, promised: 7 } })
    expect(receiver.greetings).toEqual([])
    node.inTerm = epoch(7)
    await until(() => receiver.readyCount === 1)
    expect(receiver.greetings).toMatchObject([{ term: 7 }])
  })

  describe('from a replica that has more than a candidate', () => {
    test('the candidate gets what it lacks when it was promised to, and nobody else does', async () => {
      const node = await startNode()
      node.primary = false
      const database = node.create('app.db', 3)
      const asked = { follower: new FakeReceiver(), older: new FakeReceiver(), newest: new FakeReceiver() }
      node.promisedEpoch = epoch(7)
      follow(node.url, { 'app.db': asked.follower })
      follow(node.url, { 'app.db': asked.older }, { candidate: epoch(6), promised: () => NO_EPOCH })
      follow(node.url, { 'app.db': asked.newest }, { candidate: epoch(7), promised: () => NO_EPOCH })
      await until(() => asked.newest.readyCount === 1)
      database.commit(2)
      await until(() => asked.newest.received.length === 2)
      await settle()
      expect([asked.follower.greetings, asked.older.greetings]).toEqual([[], []])
    })

    test('it ends when a newer candidate was promised to', async () => {
      const node = await startNode()
      node.primary = false
      const database = node.create('app.db', 3)
      node.promisedEpoch = epoch(7)
      const receiver = new FakeReceiver()
      const { sink } = follow(node.url, { 'app.db': receiver }, { candidate: epoch(7), promised: () => NO_EPOCH })
      await until(() => receiver.readyCount === 1)
      node.promisedEpoch = epoch(8)
      database.commit(1)
      await until(() => sink.status()[0]?.isConnected === false)
      await settle()
      expect(receiver.received).toEqual([])
    })
  })

  describe('with a copy that no record leads on', () => {
    test.each([
      ['gone', 3, 1],
      ['diverged', 5, 2],
      ['diverged', 9, 1],
    ] as const)('it is told %s, asks for the difference, and goes on from there', async (seed, at, history) => {
      const node = await startNode()
      const database = node.create('my.db', 6)
      database.goneUpTo = 4n
      database.epochs = [{ epoch: 7 as never, firstTxid: fakePosition(1).txid, checksumBefore: 0n as never }]
      const receiver = new FakeReceiver()
      receiver.at = fakePosition(at, history)
      receiver.copyPageSize = 4096
      follow(node.url, { 'my.db': receiver })
      await until(() => receiver.readyCount === 1)
      expect(receiver.greetings.map((greeting) => greeting.seed)).toEqual([seed, undefined, undefined])
      expect(receiver.greetings.map((greeting) => greeting.epochs)).toEqual(Array(3).fill(database.epochs))
      expect(receiver.differences).toBe(1)
      expect(parseLtxHeader(receiver.snapshots[0]!).minTxid).toBe(6n)
      expect(database.differencesFrom.map((from) => from.pageCount)).toEqual([3])
      database.commit(2)
      await until(() => receiver.received.length === 2)
      expect(database.openSpools).toBe(0)
    })

    test('a primary that has no difference to it sends a snapshot', async () => {
      const node = await startNode()
      const database = node.create('my.db', 6)
      database.goneUpTo = 4n
      const receiver = new FakeReceiver()
      receiver.at = fakePosition(2)
      receiver.copyPageSize = 8192
      follow(node.url, { 'my.db': receiver })
      await until(() => receiver.readyCount === 1)
      expect(receiver.differences).toBe(0)
      expect(parseLtxHeader(receiver.snapshots[0]!).minTxid).toBe(1n)
    })

    test('records that are removed while it is connected end the stream; it comes back and asks for the difference', async () => {
      const node = await startNode()
      const database = node.create('my.db', 6)
      const receiver = new FakeReceiver()
      receiver.at = fakePosition(6)
      receiver.copyPageSize = 4096
      follow(node.url, { 'my.db': receiver })
      await until(() => receiver.readyCount === 1)
      database.commitSilently()
      database.commitSilently()
      database.goneUpTo = 7n
      database.announce()
      await until(() => receiver.differences === 1 && receiver.readyCount === 2)
      expect(parseLtxHeader(receiver.snapshots[0]!).minTxid).toBe(8n)
      expect(receiver.received).toEqual([])
    })

    test.each(['dies', 'lives'])('while a difference is long in coming the connection %s', async (what) => {
      const node = await startNode()
      const database = node.create('my.db', 6)
      database.goneUpTo = 4n
      const made = Promise.withResolvers<void>()
      database.beforeSnapshot = () => made.promise
      const link = await TcpLink.open(new URL(node.url).host)
      closers.push(() => link.close())
      const receiver = new FakeReceiver()
      receiver.at = fakePosition(2)
      receiver.copyPageSize = 4096
      const { failures } = follow(
        `http://${link.address}`,
        { 'my.db': receiver },
        { options: { heartbeatTimeoutMs: 100 } },
      )
      const asked = database.differencesFrom.length
      await until(() => receiver.greetings.length === 1)
      const failed = (): boolean => failures.some(({ database }) => database === 'my.db')
      if (what === 'dies') {
        link.freeze()
        await until(failed)
        link.thaw()
      } else {
        for (let i = 0; i < 25; i++) await settle()
        expect(failed()).toBe(false)
      }
      made.resolve()
      await until(() => receiver.readyCount === 1)
      expect(database.differencesFrom.length - asked).toBeGreaterThan(0)
    })

    test('a difference that breaks off is aborted, and asked for again', async () => {
      const node = await startNode()
      const database = node.create('my.db', 6)
      database.goneUpTo = 4n
      database.snapshotPayloadBytes = 3_000_000
      database.failSnapshot = true
      const receiver = new FakeReceiver()
      receiver.at = fakePosition(2)
      receiver.copyPageSize = 4096
      follow(node.url, { 'my.db': receiver })
      await until(() => receiver.aborted.length > 0)
      database.failSnapshot = false
      await until(() => receiver.readyCount === 1)
      expect(receiver.differences).toBe(1)
    })
  })

  test('the receiver may refuse the primary: nothing is delivered, and it is asked again later', async () => {
    const node = await startNode()
    node.create('my.db', 2)
    const receiver = new FakeReceiver()
    receiver.onConnected = () => {
      if (receiver.greetings.length < 3) throw new Error('an older epoch')
    }
    follow(node.url, { 'my.db': receiver })
    await until(() => receiver.readyCount === 1)
    expect([receiver.greetings.length, receiver.snapshots.length]).toEqual([3, 1])
  })

  test('all databases share one connection', async () => {
    const node = await startNode()
    const names = Array.from({ length: 50 }, (_, i) => `db-${i}.db`)
    for (const name of names) node.create(name, 2)
    const receivers = names.map(() => new FakeReceiver())
    follow(node.url, Object.fromEntries(names.map((name, i) => [name, receivers[i]!])))
    await until(() => receivers.every((receiver) => receiver.readyCount === 1))
    expect(new Set(node.server.streams().map((stream) => stream.remoteAddress)).size).toBe(1)
  })

  test('a receiver that never finishes stops its own database only', async () => {
    const node = await startNode()
    const stuck = node.create('stuck.db', 1)
    const other = node.create('other.db', 1)
    const stuckReceiver = new FakeReceiver()
    const otherReceiver = new FakeReceiver()
    follow(
      node.url,
      { 'stuck.db': stuckReceiver, 'other.db': otherReceiver },
      { options: { streamWindowBytes: 65_536, closeTimeoutMs: 10 } },
    )
    await until(() => stuckReceiver.readyCount === 1 && otherReceiver.readyCount === 1)
    stuckReceiver.work = () => new Promise(() => undefined)
    // Far more than the connection's first window of 64 KiB, and than the stuck stream may take.
    stuck.commit(300, 20_000)
    await until(() => stuckReceiver.batches.length === 1)
    for (let i = 0; i < 10; i++) {
      other.commit(30, 20_000)
      await until(() => otherReceiver.at.txid === other.position.txid)
    }
    expect([stuckReceiver.batches.length, stuckReceiver.received.length]).toEqual([1, 0])
    const [stream] = node.server.streams().filter(({ positions }) => positions.has('stuck.db'))
    // Held back where it belongs, on the primary: only the stream's window, and what came before, ever left it.
    expect(stream!.unsentBytes).toBeGreaterThan(0)
    expect(stream!.sentBytes).toBeLessThan(65_536 + 60_000)
    expect(stream!.mostUnsentBytes).toBeLessThanOrEqual(1024 * 1024)
  })

  test('a slow receiver gets one call at a time, and what piled up as one batch', async () => {
    const node = await startNode()
    const database = node.create('my.db', 1)
    const receiver = new FakeReceiver()
    follow(node.url, { 'my.db': receiver })
    await until(() => receiver.readyCount === 1)
    const gate = Promise.withResolvers<void>()
    receiver.work = () => gate.promise
    database.commit(1, 1000)
    await until(() => receiver.batches.length === 1)
    for (let i = 0; i < 200; i++) database.commit(1, 1000)
    await settle()
    gate.resolve()
    await until(() => receiver.at.txid === 202n)
    expect(receiver.mostPending).toBe(1)
    expect(receiver.batches.length).toBeLessThan(20)
  })

  test('lag is the primary’s clock at its last sign against ours, and grows while there is none', async () => {
    const clock = new ManualClock(1000)
    const node = await startNode({ clock })
    node.create('my.db', 1)
    const receiver = new FakeReceiver()
    const ours = new ManualClock(1250)
    const { sink } = follow(node.url, { 'my.db': receiver }, { clock: ours })
    expect(sink.status()[0]?.lagMs).toBeUndefined()
    await until(() => receiver.heartbeats.length === 1)
    expect(sink.status()[0]?.lagMs).toBe(250)
    ours.advance(100)
    expect(sink.status()[0]?.lagMs).toBe(350)
  })

  test('losing the primary is survived: the replica continues where it is, without a snapshot', async () => {
    const node = await startNode()
    const database = node.create('my.db', 3)
    const receiver = new FakeReceiver()
    follow(node.url, { 'my.db': receiver })
    await until(() => receiver.readyCount === 1)
    for (let i = 2; i <= 4; i++) {
      node.server.endStreams()
      database.commit(2)
      await until(() => receiver.readyCount === i && receiver.at.txid === database.position.txid)
    }
    expect(receiver.snapshots).toHaveLength(1)
    expect(receiver.received).toHaveLength(6)
  })

  test('a database the primary does not have yet is not called dropped, and arrives, with its epochs, when it comes', async () => {
    const node = await startNode()
    const receiver = new FakeReceiver()
    follow(node.url, { 'late.db': receiver })
    await until(() => receiver.readyCount === 1)
    const late = new FakeDatabase('late.db')
    late.epochs = [{ epoch: 7 as never, firstTxid: fakePosition(1).txid, checksumBefore: 0n as never }]
    node.add(late)
    late.commit(2)
    await until(() => receiver.snapshots.length === 1)
    expect(receiver.droppedCount).toBe(0)
    expect(receiver.greetings.map(({ epochs }) => epochs)).toEqual([undefined, late.epochs])
  })

  test('unfollow and close stop the calls and the connection', async () => {
    const node = await startNode()
    const a = node.create('a.db', 1)
    node.create('b.db', 1)
    const receivers = { 'a.db': new FakeReceiver(), 'b.db': new FakeReceiver() }
    const { sink } = follow(node.url, receivers)
    await until(() => receivers['a.db'].readyCount + receivers['b.db'].readyCount === 2)
    await sink.unfollow(databaseName('a.db'))
    a.commit()
    await until(() => node.server.streams().length === 1)
    expect(receivers['a.db'].received).toHaveLength(0)
    expect(await sink.close()).toBe(true)
    await until(() => node.server.streams().length === 0)
  })

  test('close does not wait for a receiver that never finishes longer than its timeout, and says so', async () => {
    const node = await startNode()
    node.create('my.db', 1)
    const receiver = new FakeReceiver()
    receiver.work = () => new Promise(() => undefined)
    const { sink } = follow(node.url, { 'my.db': receiver }, { options: { closeTimeoutMs: 20 } })
    await until(() => receiver.snapshotPieces === 1)
    expect(await sink.close()).toBe(false)
  })
})

describe('with a cluster key', () => {
  test('both ends prove it', async () => {
    const node = await startNode({ keys: [KEY] })
    node.create('my.db', 1)
    const receiver = new FakeReceiver()
    follow(node.url, { 'my.db': receiver }, { keys: ['a newer key of enough length', KEY].reverse() })
    await until(() => receiver.readyCount === 1)
    expect(node.server.streams()).toMatchObject([{ kind: 'litefleet', nodeName: 'réplica' }])
  })

  test('a replica with another key is refused by name', async () => {
    const node = await startNode({ keys: [KEY] })
    node.create('my.db', 1)
    const receiver = new FakeReceiver()
    const { failures } = follow(node.url, { 'my.db': receiver }, { keys: ['another key of enough length'] })
    await until(() => hasFailed(failures, 'UNAUTHENTICATED'))
    expect(receiver.greetings).toHaveLength(0)
  })

  test.each([
    ['without a proof', () => ({})],
    [
      'with a proof under another key',
      (token: string) => ({ 'litefleet-answer': answerToken('another key of enough length', token) }),
    ],
  ])('nothing is taken from a primary %s, unless interop is on', async (_what, proof) => {
    const primary = await startPrimary(({ stream, headers }) => {
      stream.respond({ ...HEADERS, ...proof(String(headers['litefleet-token'])) })
      stream.write(Buffer.concat([READY, heartbeat(5)]))
    })
    const receiver = new FakeReceiver()
    const adopted: string[] = []
    const parts = { keys: [KEY], clusterId: () => undefined, adoptClusterId: (id: string) => void adopted.push(id) }
    const { failures, sink } = follow(primary.url, { 'my.db': receiver }, parts)
    await until(() => hasFailed(failures, 'UNAUTHENTICATED'))
    expect([receiver.readyCount, adopted.length]).toEqual([0, 0])
    await sink.close()
    follow(primary.url, { 'my.db': receiver }, { ...parts, interop: true })
    await until(() => receiver.readyCount === 1)
  })
})

describe('the cluster id', () => {
  test('of another cluster stops the replica by name, before a byte is used', async () => {
    const node = await startNode()
    node.create('my.db', 1)
    const receiver = new FakeReceiver()
    const { failures } = follow(node.url, { 'my.db': receiver }, { clusterId: () => 'LFSCFFFFFFFFFFFFFFFF' })
    await until(() => hasFailed(failures, 'CLUSTER_MISMATCH'))
    expect([receiver.greetings.length, receiver.snapshots.length]).toEqual([0, 0])
  })

  test('missing at the primary, though this node has one, is a mismatch too', async () => {
    const node = await startNode()
    node.cluster = undefined
    const { failures } = follow(node.url, { 'my.db': new FakeReceiver() })
    await until(() => hasFailed(failures, 'CLUSTER_MISMATCH'))
  })

  test('is adopted once by a node without one, before anything is delivered', async () => {
    const node = await startNode()
    const receivers = { 'a.db': new FakeReceiver(), 'b.db': new FakeReceiver(), 'c.db': new FakeReceiver() }
    for (const name of Object.keys(receivers)) node.create(name, 1)
    let stored: string | undefined
    const adopted: string[] = []
    follow(node.url, receivers, {
      clusterId: () => stored,
      adoptClusterId: async (id) => {
        expect(Object.values(receivers).every(({ greetings }) => greetings.length === 0)).toBe(true)
        await settle()
        adopted.push(id)
        stored = id
      },
    })
    await until(() => Object.values(receivers).every(({ readyCount }) => readyCount === 1))
    expect(adopted).toEqual([CLUSTER_ID])
  })

  test('absent on both sides is accepted', async () => {
    const node = await startNode()
    node.cluster = undefined
    node.create('my.db', 1)
    const receiver = new FakeReceiver()
    follow(node.url, { 'my.db': receiver }, { clusterId: () => undefined })
    await until(() => receiver.readyCount === 1)
  })
})

describe('from a LiteFS-like primary', () => {
  test('the request is what LiteFS expects', async () => {
    const primary = await startPrimary(({ stream }) => stream.respond(HEADERS))
    const receiver = new FakeReceiver()
    receiver.at = fakePosition(6)
    follow(primary.url, { 'n ü.db': receiver })
    await until(() => primary.requests.length === 1)
    const [{ headers, positions }] = primary.requests as [RawRequest]
    expect(headers).toMatchObject({
      ':method': 'POST',
      ':path': '/stream?filter=n%20%C3%BC.db',
      'litefs-id': '00000000000000BB',
      'litefleet-node': 'r%C3%A9plica',
      'litefleet-protocol': '1',
      'litefleet-epoch': '4',
    })
    const { checksum } = fakePosition(6)
    expect(positions).toEqual(rawPositionMap(['n ü.db', '6', checksum.toString(16)]))
  })

  test('a database without a transaction is not in the position map', async () => {
    const primary = await startPrimary(({ stream }) => stream.respond(HEADERS))
    follow(primary.url, { 'n.db': new FakeReceiver() })
    await until(() => primary.requests.length === 1)
    expect(primary.requests[0]?.positions.toString('hex')).toBe('00000000')
  })

  test('frames cut anywhere are understood, high-water marks are passed over', async () => {
    const bytes = Buffer.concat([
      ltxFrame('n.db', fakeLtx(1, 5, 900), 7),
      ltxFrame('n.db', fakeLtx(6, 6, 300), 100),
      hwm('n.db'),
      ltxFrame('n.db', fakeLtx(7, 7, 70_000)),
      hwm('n.db'),
      READY,
      heartbeat(1234),
    ])
    const primary = await startPrimary(({ stream }) => {
      stream.respond(HEADERS)
      void (async () => {
        for (let i = 0; i < bytes.length; i += 1009) {
          stream.write(bytes.subarray(i, i + 1009))
          if (i % 5 === 0) await new Promise((resolve) => setImmediate(resolve))
        }
      })()
    })
    const receiver = new FakeReceiver()
    follow(primary.url, { 'n.db': receiver })
    await until(() => receiver.heartbeats.length === 1)
    expect(receiver.snapshots).toEqual([fakeLtx(1, 5, 900)])
    expect(receiver.received).toEqual([fakeLtx(6, 6, 300), fakeLtx(7, 7, 70_000)])
    expect([receiver.readyCount, receiver.heartbeats]).toEqual([1, [1234]])
    expect(receiver.greetings[0]).toMatchObject({ kind: 'litefs', epochs: undefined })
  })

  test('DROPDB is told to the receiver of that database', async () => {
    const primary = await startPrimary(({ stream }) => {
      stream.respond(HEADERS)
      stream.write(Buffer.concat([dropDb('other.db'), dropDb('n.db'), READY]))
    })
    const receiver = new FakeReceiver()
    receiver.at = fakePosition(3)
    follow(primary.url, { 'n.db': receiver })
    await until(() => receiver.readyCount === 1)
    expect(receiver.droppedCount).toBe(1)
  })

  test('END and HANDOFF lead to a new connection', async () => {
    const primary = await startPrimary(({ stream }, attempt) => {
      stream.respond(HEADERS)
      stream.write(READY)
      if (attempt < 3) stream.end(attempt === 1 ? END : Buffer.concat([handoff('lease-1'), END]))
    })
    const receiver = new FakeReceiver()
    const offers: unknown[] = []
    const { failures } = follow(primary.url, { 'n.db': receiver }, { onHandoff: (offer) => offers.push(offer) })
    await until(() => receiver.readyCount === 3)
    expect(failures).toEqual([])
    expect(offers).toEqual([{ leaseId: 'lease-1', from: primary.url }])
  })

  test('a HANDOFF of a Litefleet primary is none: its office moves in another way', async () => {
    const primary = await startPrimary(({ stream }, attempt) => {
      stream.respond({ ...HEADERS, 'litefleet-protocol': '1' })
      stream.write(READY)
      if (attempt === 1) stream.end(Buffer.concat([handoff('lease-1'), END]))
    })
    const receiver = new FakeReceiver()
    const offers: unknown[] = []
    follow(primary.url, { 'n.db': receiver }, { onHandoff: (offer) => offers.push(offer) })
    await until(() => receiver.readyCount === 2)
    expect(offers).toEqual([])
  })

  test('LiteFS has no epochs: its primary is followed whatever this node promised to others', async () => {
    const primary = await startPrimary(({ stream }) => {
      stream.respond(HEADERS)
      stream.write(READY)
    })
    const receiver = new FakeReceiver()
    follow(primary.url, { 'n.db': receiver }, { promised: () => epoch(7) })
    await until(() => receiver.readyCount === 1)
  })

  describe.each([
    ['an error text in the body', Buffer.from('stream error: db="n.db" err=disk\n')],
    ['garbage', Buffer.from('ffffffff00112233', 'hex')],
    ['an LTX that is none', ltxFrame('n.db', Buffer.alloc(200))],
    ['an LTX shorter than its header', ltxFrame('n.db', Buffer.alloc(50))],
    ['a database that was not asked for', ltxFrame('x.db', fakeLtx(6, 6, 10))],
  ])('%s', (_what, bytes) => {
    test('breaks the connection; what came before it was delivered and the next one continues from there', async () => {
      const primary = await startPrimary(({ stream }, attempt) => {
        stream.respond(HEADERS)
        if (attempt === 1) stream.write(Buffer.concat([ltxFrame('n.db', fakeLtx(5, 5, 10)), bytes]))
        else stream.write(Buffer.concat([ltxFrame('n.db', fakeLtx(6, 6, 10)), READY]))
      })
      const receiver = new FakeReceiver()
      receiver.at = fakePosition(4)
      const { failures } = follow(primary.url, { 'n.db': receiver })
      await until(() => receiver.readyCount === 1)
      expect(receiver.received).toEqual([fakeLtx(5, 5, 10), fakeLtx(6, 6, 10)])
      expect(primary.requests[1]?.positions).toEqual(
        rawPositionMap(['n.db', '5', fakePosition(5).checksum.toString(16)]),
      )
      expect(failures).toHaveLength(1)
    })
  })

  test('a broken connection is not made anew while the receiver is still busy with what came over it', async () => {
    const primary = await startPrimary(({ stream }, attempt) => {
      stream.respond(HEADERS)
      stream.write(attempt === 1 ? Buffer.concat([ltxFrame('n.db', fakeLtx(5, 5, 10)), Buffer.alloc(8, 0xff)]) : READY)
    })
    const receiver = new FakeReceiver()
    receiver.at = fakePosition(4)
    const gate = Promise.withResolvers<void>()
    receiver.work = () => gate.promise
    follow(primary.url, { 'n.db': receiver })
    await until(() => receiver.batches.length === 1)
    await settle()
    expect(primary.requests).toHaveLength(1)
    gate.resolve()
    await until(() => receiver.readyCount === 1)
    expect(primary.requests[1]?.positions).toEqual(rawPositionMap(['n.db', '5', fakePosition(5).checksum.toString(16)]))
  })

  test('records tell the lag only after READY: before it they are history', async () => {
    const primary = await startPrimary(({ stream }) => {
      stream.respond(HEADERS)
      stream.write(ltxFrame('n.db', fakeLtx(5, 5, 10, 1, 5000)))
    })
    const receiver = new FakeReceiver()
    receiver.at = fakePosition(4)
    const { sink } = follow(primary.url, { 'n.db': receiver }, { clock: new ManualClock(9000) })
    await until(() => receiver.received.length === 1)
    expect(sink.status()[0]?.lagMs).toBeUndefined()
    primary.requests[0]?.stream.write(Buffer.concat([READY, ltxFrame('n.db', fakeLtx(6, 6, 10, 1, 8800))]))
    await until(() => receiver.received.length === 2)
    expect(sink.status()[0]?.lagMs).toBe(200)
  })

  test('a record longer than allowed breaks the connection before it is collected', async () => {
    const primary = await startPrimary(({ stream }) => {
      stream.respond(HEADERS)
      stream.write(ltxFrame('n.db', fakeLtx(5, 5, 300_000)))
    })
    const receiver = new FakeReceiver()
    receiver.at = fakePosition(4)
    const { failures } = follow(primary.url, { 'n.db': receiver }, { options: { recordBytesMax: 65_536 } })
    await until(() => hasFailed(failures, 'STREAM_FAILED'))
    expect(receiver.received).toHaveLength(0)
  })

  test('a record that does not continue the position is the receiver’s error: a new connection with the true position', async () => {
    const primary = await startPrimary(({ stream }, attempt) => {
      stream.respond(HEADERS)
      stream.write(Buffer.concat([ltxFrame('n.db', attempt === 1 ? fakeLtx(9, 9, 10) : fakeLtx(1, 9, 10)), READY]))
    })
    const receiver = new FakeReceiver()
    receiver.at = fakePosition(4)
    const { failures } = follow(primary.url, { 'n.db': receiver })
    await until(() => receiver.readyCount === 1)
    expect([receiver.at, failures.length]).toEqual([fakePosition(9), 1])
  })

  test('a receiver that fails with every snapshot is sent them ever more rarely', async () => {
    const clock = new ManualClock()
    const primary = await startPrimary(({ stream }) => {
      stream.respond(HEADERS)
      stream.write(Buffer.concat([heartbeat(1), ltxFrame('n.db', fakeLtx(1, 5, 100)), READY]))
    })
    const receiver = new FakeReceiver()
    receiver.beginSnapshot = () => ({
      data: () => undefined,
      finish: () => Promise.reject(new Error('disk full')),
      abort: () => undefined,
    })
    const delays: number[] = []
    follow(
      primary.url,
      { 'n.db': receiver },
      {
        clock,
        onFailure: (_error, delayMs, database) => void (database !== undefined && delays.push(delayMs)),
        options: { reconnectMinMs: 100, reconnectMaxMs: 1000 },
      },
    )
    for (let count = 1; count <= 5; count++) {
      await until(() => delays.length === count)
      clock.advance(1000)
    }
    expect(delays.slice(0, 5)).toEqual([100, 200, 400, 800, 1000])
  })

  test('a connection lost within a snapshot aborts it', async () => {
    const snapshot = ltxFrame('n.db', fakeLtx(1, 5, 200_000))
    const primary = await startPrimary(({ stream }, attempt) => {
      stream.respond(HEADERS)
      stream.write(attempt === 1 ? snapshot.subarray(0, 100_000) : Buffer.concat([snapshot, READY]))
    })
    const receiver = new FakeReceiver()
    follow(primary.url, { 'n.db': receiver })
    await until(() => receiver.snapshotPieces > 0)
    primary.dropConnections()
    await until(() => receiver.readyCount === 1)
    expect([receiver.aborted.length, receiver.snapshots.length]).toEqual([1, 1])
  })

  test.each([
    [503, 'lease expired', 'NOT_PRIMARY'],
    [400, 'cannot connect to self', 'STREAM_FAILED'],
    [401, 'cluster token required', 'UNAUTHENTICATED'],
  ] as const)('an answer %i is reported with its text and asked again', async (status, text, code) => {
    const primary = await startPrimary(({ stream }, attempt) => {
      stream.respond({ ...HEADERS, ':status': attempt === 1 ? status : 200 })
      if (attempt === 1) stream.end(`${text}\n`)
      else stream.write(READY)
    })
    const receiver = new FakeReceiver()
    const { failures } = follow(primary.url, { 'n.db': receiver })
    await until(() => receiver.readyCount === 1)
    expect(failures).toHaveLength(1)
    expect(failures[0]?.error).toMatchObject({ code, details: { status, reason: text } })
  })

  test('another protocol version is refused by name', async () => {
    const primary = await startPrimary(({ stream }) => stream.respond({ ...HEADERS, 'litefleet-protocol': '99' }))
    const { failures } = follow(primary.url, { 'n.db': new FakeReceiver() })
    await until(() => hasFailed(failures, 'PROTOCOL_MISMATCH'))
  })
})

describe('silence', () => {
  test('a half-open stream is given up after the heartbeat timeout, and so is its connection', async () => {
    const clock = new ManualClock()
    const primary = await startPrimary(({ stream }, attempt) => {
      stream.respond(HEADERS)
      if (attempt === 1)
        stream.write(READY) // and nothing more, as after a cut cable
      else stream.write(Buffer.concat([READY, heartbeat(1)]))
    })
    const receiver = new FakeReceiver()
    const { failures } = follow(primary.url, { 'n.db': receiver }, { clock })
    await until(() => receiver.readyCount === 1)
    clock.advance(4999)
    await settle()
    expect(failures).toHaveLength(0)
    clock.advance(1)
    await until(() => failures.length > 0)
    expect(failures[0]?.error).toMatchObject({ code: 'STREAM_FAILED' })
    await until(() => {
      clock.advance(1)
      return receiver.readyCount === 2
    })
    expect([primary.sessionCount, primary.sessionsEver]).toEqual([1, 2])
  })

  test('any frame counts as a sign of life', async () => {
    const clock = new ManualClock()
    const primary = await startPrimary(({ stream }) => {
      stream.respond(HEADERS)
      stream.write(READY)
    })
    const receiver = new FakeReceiver()
    receiver.at = fakePosition(4)
    const { failures } = follow(primary.url, { 'n.db': receiver }, { clock })
    await until(() => receiver.readyCount === 1)
    for (let txid = 5; txid < 10; txid++) {
      clock.advance(4000)
      primary.requests[0]?.stream.write(ltxFrame('n.db', fakeLtx(txid, txid, 10)))
      await until(() => receiver.received.length === txid - 4)
    }
    expect(failures).toHaveLength(0)
  })

  test('one silent stream does not take the connection from the others', async () => {
    const clock = new ManualClock()
    const primary = await startPrimary(({ stream }) => {
      stream.respond(HEADERS)
      stream.write(READY)
    })
    const receivers = { 'silent.db': new FakeReceiver(), 'alive.db': new FakeReceiver() }
    const { failures } = follow(primary.url, receivers, { clock })
    await until(() => Object.values(receivers).every(({ readyCount }) => readyCount === 1))
    const alive = primary.requests.find(({ headers }) => headers[':path']?.includes('alive'))
    clock.advance(3000)
    alive?.stream.write(heartbeat(1))
    await until(() => receivers['alive.db'].heartbeats.length === 1)
    clock.advance(2000)
    await until(() => failures.length === 1)
    expect(failures[0]?.database).toBe('silent.db')
    expect([primary.sessionCount, alive?.stream.closed]).toEqual([1, false])
  })

  test('a receiver that takes longer than the timeout is not mistaken for a silent primary', async () => {
    const clock = new ManualClock()
    const node = await startNode()
    const database = node.create('my.db', 1)
    const receiver = new FakeReceiver()
    const { failures } = follow(node.url, { 'my.db': receiver }, { clock })
    await until(() => receiver.readyCount === 1)
    const gate = Promise.withResolvers<void>()
    receiver.work = () => gate.promise
    database.commit()
    await until(() => receiver.batches.length === 1)
    clock.advance(4000)
    clock.advance(4000)
    gate.resolve()
    await until(() => receiver.received.length === 1)
    await settle()
    expect(failures).toHaveLength(0)
  })

  test('a port that accepts and says nothing is given up after the connect timeout; waits grow with jitter', async () => {
    const clock = new ManualClock()
    const sockets: net.Socket[] = []
    const server = net.createServer((socket) => {
      sockets.push(socket)
      socket.on('error', () => undefined).resume()
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    closers.unshift(
      () =>
        new Promise((resolve) => {
          for (const socket of sockets) socket.destroy()
          server.close(resolve)
        }),
    )
    const delays: number[] = []
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const { sink } = follow(
      url,
      { 'n.db': new FakeReceiver() },
      {
        clock,
        onFailure: (_error, delayMs, database) => void (database === undefined && delays.push(delayMs)),
        options: { reconnectMinMs: 100, reconnectMaxMs: 1000 },
      },
    )
    while (delays.length < 6) {
      const before = delays.length
      const count = sockets.length
      clock.advance(1000) // past the wait, if there is one
      await until(() => sockets.length > count || delays.length > before || before === 0)
      clock.advance(5000)
      await until(() => delays.length > before)
    }
    expect(delays.slice(0, 6)).toEqual([100, 200, 400, 800, 1000, 1000])
    expect(sink.isConnected).toBe(false)
  })

  test('a primary that is not there is tried again until it is', async () => {
    const node = await startNode()
    node.create('my.db', 1)
    const port = Number(new URL(node.url).port)
    await node.server.close()
    const receiver = new FakeReceiver()
    const { failures } = follow(node.url, { 'my.db': receiver })
    await until(() => failures.length >= 2)
    const again = await startNode({ options: { port } })
    again.create('my.db', 1)
    await until(() => receiver.readyCount === 1)
  })
})

test('an address that is none and a name with a comma are refused', () => {
  expect(() => follow('host:1', {})).toThrowError(/no http:\/\/ URL/)
  expect(() => follow('http://127.0.0.1:1', { 'a,b.db': new FakeReceiver() })).toThrowError(/comma/)
})
