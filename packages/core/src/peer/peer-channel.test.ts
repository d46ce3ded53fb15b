/** Two nodes and the channel between them, over loopback. */
import {
  Client,
  credentials,
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServiceError,
} from '@grpc/grpc-js'
import { afterEach, describe, expect, it } from 'vitest'
import { systemClock } from '../base/clock.ts'
import {
  echo,
  nodeIdOf,
  procedureCall,
  TEST_CLUSTER,
  TestNode,
  type TestNodeOptions,
} from '../forward/test-support/test-node.ts'
import { TcpLink } from '../forward/test-support/tcp-link.ts'
import { checksum } from '../position/checksum.ts'
import { epoch } from '../position/epoch.ts'
import { txid } from '../position/txid.ts'
import { signToken } from '../request/cluster-token.ts'
import { until } from '../stream/test-support/until.ts'
import type { Hello } from './hello.ts'
import { MembershipAnnouncer } from './membership-announcer.ts'
import { PEER_DEFAULTS } from './peer-options.ts'
import { PeerPool } from './peer-pool.ts'
import { loadPeerProtocol, PROTOCOL_VERSION } from './protocol.ts'
import { PositionReporter } from './position-reporter.ts'
import { fetchStatus } from './status-client.ts'
import { encodeHello, type PeerMessage, type WireReply } from './wire-messages.ts'

const KEY = 'the key of this cluster'
const QUICK = { reconnectMinMs: 5, reconnectMaxMs: 20 }
const closers: (() => Promise<unknown> | void)[] = []

afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

async function start(options: TestNodeOptions): Promise<TestNode> {
  const node = new TestNode({ ...options, peer: { ...QUICK, ...options.peer } })
  closers.push(() => node.close())
  return node.listen()
}

async function startPrimary(options: Partial<TestNodeOptions> = {}): Promise<TestNode> {
  const node = await start({ name: 'primary', ...options })
  node.leadership.set('primary')
  return node
}

async function link(node: TestNode): Promise<TcpLink> {
  const opened = await TcpLink.open(node.address)
  closers.push(() => opened.close())
  return opened
}

const nowMs = (): number => systemClock.monotonicMs()
const body = Buffer.from('body')
const code = (expected: string) => expect.objectContaining({ code: expected })

describe('two nodes that belong together', () => {
  it("exchange hellos, and a node without a cluster id adopts the other one's", async () => {
    const primary = await startPrimary({ region: 'gru' })
    const replica = await start({ name: 'replica', clusterId: '' })
    const client = replica.peers.client(primary.address)
    await until(() => client.state.kind === 'connected')
    expect(client.state).toMatchObject({
      hello: { nodeName: 'primary', region: 'gru', role: 'primary', clusterId: TEST_CLUSTER },
    })
    expect(replica.clusterId).toBe(TEST_CLUSTER)
    expect(replica.peers.client(primary.address)).toBe(client)
  })

  it.each([
    ['the same key', [KEY], [KEY]],
    ['a key that is being changed on the dialling side', ['the new key of it', KEY], [KEY, 'the new key of it']],
    ['a key that is being changed on the answering side', [KEY], ['the new key of it', KEY]],
  ])('accept each other with %s', async (_, dialler, answerer) => {
    const primary = await startPrimary({ keys: answerer })
    const replica = (await start({ name: 'replica', keys: dialler })).follow(primary)
    expect(await replica.forwarder.write(procedureCall('x'))).toMatchObject({ result: { value: 'x' } })
  })

  it('measure the round trip', async () => {
    const primary = await startPrimary()
    const client = (await start({ name: 'replica' })).peers.client(primary.address)
    await until(() => client.state.kind === 'connected' && client.state.rttMs !== undefined)
  })
})

describe('two nodes that do not belong together', () => {
  it.each([
    ['another cluster', 'CLUSTER_MISMATCH', { clusterId: 'LFSC00000000000000FF' }, {}],
    ['a cluster the other one has not joined', 'CLUSTER_MISMATCH', {}, { clusterId: '' }],
    ['another key', 'UNAUTHENTICATED', { keys: ['some other secret key'] }, { keys: [KEY] }],
    ['no key', 'UNAUTHENTICATED', {}, { keys: [KEY] }],
    ['a key that the answering node does not have', 'UNAUTHENTICATED', { keys: [KEY] }, {}],
  ])('refuse each other by name: %s', async (_, expected, dialler, answerer) => {
    let seen = 0
    const primary = await startPrimary({ ...answerer, execute: (call) => (seen++, Promise.resolve(echo(call))) })
    const replica = (await start({ name: 'replica', ...dialler })).follow(primary)
    const client = replica.peers.client(primary.address)
    await until(() => client.state.kind === 'refused')
    await expect(client.request('write', body, nowMs() + 1_000)).rejects.toThrow(code(expected))
    await expect(replica.forwarder.write(procedureCall('x', { timeoutMs: 200 }))).rejects.toThrow(code(expected))
    expect(primary.server.replicas()).toEqual([])
    expect(seen).toBe(0)
  })

  it('find each other when the other one was replaced by one that fits', async () => {
    const stranger = await startPrimary({ clusterId: 'LFSC00000000000000FF' })
    const port = Number(stranger.address.split(':')[1])
    const replica = (await start({ name: 'replica' })).follow(stranger)
    const client = replica.peers.client(stranger.address)
    await until(() => client.state.kind === 'refused')
    await stranger.close()
    const right = new TestNode({ name: 'primary' })
    closers.push(() => right.close())
    right.leadership.set('primary')
    await right.listen(port)
    await until(() => client.state.kind === 'connected')
  })
})

/** A caller that is no node of ours: sends what the test wants. */
function dial(address: string, first: PeerMessage, token?: string) {
  const method = loadPeerProtocol().peer['Channel']!
  const client = new Client(address, credentials.createInsecure())
  const metadata = new Metadata()
  if (token !== undefined) metadata.set('authorization', `Bearer ${token}`)
  const call = client.makeBidiStreamRequest(method.path, method.requestSerialize, method.responseDeserialize, metadata)
  closers.push(() => (call.cancel(), client.close()))
  const received: PeerMessage[] = []
  const failed = new Promise<ServiceError>((resolve) => call.on('error', resolve))
  call.on('data', (message: PeerMessage) => received.push(message))
  call.write(first)
  return { call, received, failed }
}

const helloOf = (name: string, more: Partial<Hello> = {}): PeerMessage => ({
  hello: encodeHello({
    protocolVersion: PROTOCOL_VERSION,
    clusterId: TEST_CLUSTER,
    nodeName: name,
    nodeId: nodeIdOf(name),
    region: '',
    grpcAddress: '',
    httpUrl: '',
    isCandidate: false,
    role: 'replica',
    databases: [],
    tokenAnswer: '',
    ...more,
  }),
})

describe('the answering side', () => {
  it('names an unknown protocol version in the status', async () => {
    const primary = await startPrimary()
    const error = await dial(primary.address, helloOf('later', { protocolVersion: 99 })).failed
    expect(error.metadata.get('litefleet-code')).toEqual(['PROTOCOL_MISMATCH'])
    expect(error.metadata.get('litefleet-hint').length).toBe(1)
  })

  it('takes nothing before a hello, and no second hello', async () => {
    let seen = 0
    const primary = await startPrimary({ execute: (call) => (seen++, Promise.resolve(echo(call))) })
    const request = { requests: { requests: [{ id: 1, timeoutMs: 1_000, kind: 'REQUEST_KIND_WRITE' as const, body }] } }
    expect((await dial(primary.address, request).failed).metadata.get('litefleet-code')).toEqual(['INVALID_REQUEST'])
    const twice = dial(primary.address, helloOf('x'))
    twice.call.write(helloOf('x'))
    expect((await twice.failed).metadata.get('litefleet-code')).toEqual(['INVALID_REQUEST'])
    expect(seen).toBe(0)
  })

  it("refuses a token that was used before, and a hello of another node than the token's", async () => {
    const primary = await startPrimary({ keys: [KEY] })
    const token = signToken([KEY], 'channel', { clusterId: TEST_CLUSTER, nodeName: 'x' }, Date.now()) as string
    const first = dial(primary.address, helloOf('x'), token)
    await until(() => first.received.length > 0)
    expect(first.received[0]?.hello?.tokenAnswer).not.toBe('')
    expect((await dial(primary.address, helloOf('x'), token).failed).metadata.get('litefleet-code')).toEqual([
      'UNAUTHENTICATED',
    ])
    const other = signToken([KEY], 'channel', { clusterId: '', nodeName: 'x' }, Date.now())
    expect((await dial(primary.address, helloOf('y'), other).failed).metadata.get('litefleet-code')).toEqual([
      'UNAUTHENTICATED',
    ])
    const foreign = signToken([KEY], 'channel', { clusterId: 'LFSC00000000000000FF', nodeName: 'x' }, Date.now())
    expect((await dial(primary.address, helloOf('x'), foreign).failed).metadata.get('litefleet-code')).toEqual([
      'CLUSTER_MISMATCH',
    ])
  })

  it('answers a kind of request it does not know, and one above its bounds, with a refusal', async () => {
    const waiting = Promise.withResolvers<void>()
    const primary = await startPrimary({
      peer: { inFlightMax: 2 },
      execute: (call) => waiting.promise.then(() => echo(call)),
    })
    const replica = (await start({ name: 'replica' })).follow(primary)
    const { call, received } = dial(primary.address, helloOf('x'))
    call.write({ requests: { requests: [{ id: 7, timeoutMs: 1_000, kind: 'REQUEST_KIND_UNSPECIFIED', body }] } })
    const replies = (): readonly WireReply[] => received.flatMap((message) => message.replies?.replies ?? [])
    await until(() => replies().length === 1)
    expect(replies()[0]).toMatchObject({ id: 7, refusal: { code: 'PROTOCOL_MISMATCH' } })

    const writes = [1, 2].map((value) => replica.forwarder.write(procedureCall(value)))
    const client = replica.peers.client(primary.address)
    await until(() => client.isBusy)
    await expect(replica.forwarder.write(procedureCall(3))).rejects.toThrow(code('PEER_QUEUE_FULL'))
    waiting.resolve()
    expect((await Promise.all(writes)).map((answer) => answer.result)).toEqual(
      [1, 2].map((value) => ({ kind: 'procedure', value })),
    )
    expect(await replica.forwarder.write(procedureCall(4))).toMatchObject({ result: { value: 4 } })
  })

  it('answers what it took before it closes, and takes nothing new', async () => {
    const waiting = Promise.withResolvers<void>()
    let taken = 0
    const primary = await startPrimary({ execute: (call) => (taken++, waiting.promise.then(() => echo(call))) })
    const replica = (await start({ name: 'replica' })).follow(primary)
    const client = replica.peers.client(primary.address)
    const write = replica.forwarder.write(procedureCall('taken'))
    await until(() => taken === 1)
    const closing = primary.server.close(5_000)
    for (;;) {
      // Refused here once the goodbye arrived; refused there if it was sent before.
      const error: unknown = await client.request('call', body, nowMs() + 1_000).catch((reason: unknown) => reason)
      if ((error as { code?: string }).code === 'PEER_UNREACHABLE') break
    }
    waiting.resolve()
    expect(await write).toMatchObject({ result: { value: 'taken' } })
    await closing
  })

  it('counts a node as a replica from its first report, and only its newest channel', async () => {
    const primary = await startPrimary()
    const client = (await start({ name: 'caller' })).peers.client(primary.address)
    await until(() => client.state.kind === 'connected')
    expect(primary.server.replicas()).toEqual([])
    const report = {
      database: 'app.db',
      epoch: '1',
      durable: { txid: '5', checksum: String(1n << 63n) },
      applied: null,
    }
    const old = dial(primary.address, helloOf('x'))
    old.call.write({ positions: { reports: [report] } })
    await until(() => primary.joined.length === 1)
    expect(primary.positions.slowestDurable('app.db')).toBe(5n)
    const ended = new Promise((resolve) => old.call.on('end', resolve))
    const fresh = dial(primary.address, helloOf('x'))
    fresh.call.write({ positions: { reports: [{ ...report, durable: { txid: '6', checksum: String(1n << 63n) } }] } })
    await ended
    expect(primary.joined).toEqual(['x', 'x'])
    expect(primary.positions.slowestDurable('app.db')).toBe(6n)
    expect(primary.server.replicas().length).toBe(1)
    fresh.call.cancel()
    await until(() => primary.server.replicas().length === 0)
    expect(primary.positions.standings('app.db')).toEqual([])
  })

  it('refuses to listen beyond loopback without a key', async () => {
    const node = new TestNode({ name: 'x' })
    closers.push(() => node.close())
    expect(() => node.server.listen('0.0.0.0', 0)).toThrow(code('INSECURE_LISTENER'))
  })

  it('says so when the port is taken', async () => {
    const node = await startPrimary()
    const second = new TestNode({ name: 'second' })
    closers.push(() => second.close())
    await expect(second.listen(Number(node.address.split(':')[1]))).rejects.toThrow(code('LISTEN_FAILED'))
  })
})

/** A node that answers as the test wants. */
async function answerer(
  answer: (message: PeerMessage, stream: ServerDuplexStream<PeerMessage, PeerMessage>) => void,
): Promise<string> {
  const server = new Server()
  server.addService(loadPeerProtocol().peer, {
    channel: (stream: ServerDuplexStream<PeerMessage, PeerMessage>) => {
      stream.on('data', (message: PeerMessage) => {
        if (message.hello === undefined) answer(message, stream)
        else stream.write(helloOf('primary'))
      })
      stream.on('error', () => undefined)
    },
  })
  closers.push(() => server.forceShutdown())
  return new Promise((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) =>
      error ? reject(error) : resolve(`127.0.0.1:${port}`),
    )
  })
}

function pool(more: Partial<typeof PEER_DEFAULTS> = {}): PeerPool {
  const { hello: _, ...card } = { ...helloOf('dialler'), role: 'replica' as const }
  const peers = new PeerPool({
    clock: systemClock,
    protocol: loadPeerProtocol(),
    options: { ...PEER_DEFAULTS, ...QUICK, ...more },
    keys: [],
    route: (address) => address,
    random: () => 0.5,
    hello: () => ({
      ...card,
      nodeId: nodeIdOf('dialler'),
      nodeName: 'dialler',
      region: '',
      grpcAddress: '',
      httpUrl: '',
      isCandidate: false,
      clusterId: TEST_CLUSTER,
      databases: [],
    }),
    adoptClusterId: () => undefined,
  })
  closers.push(() => peers.close())
  return peers
}

describe('the dialling side', () => {
  it('matches replies whatever their order, and ignores unknown and repeated ones', async () => {
    const address = await answerer((message, stream) => {
      const requests = message.requests?.requests ?? []
      const replies = requests.map(({ id, body: asked }) => ({ id, answer: asked as Buffer })).toReversed()
      const noise = [{ id: 4_000_000_000, answer: body }, { id: 4_000_000_001 }]
      if (requests.length > 0) stream.write({ replies: { replies: [...noise, ...replies, ...replies] } })
    })
    const client = pool().client(address)
    await until(() => client.state.kind === 'connected')
    const asked = Array.from({ length: 3_000 }, (_, i) => Buffer.from(`request ${i}`))
    const replies = await Promise.all(asked.map((bytes) => client.request('write', bytes, nowMs() + 10_000)))
    expect(replies.map((reply) => reply.body.toString())).toEqual(asked.map(String))
    expect(client.isBusy).toBe(false)
  })

  it("believes nothing before the other side's hello, and takes an empty reply for no answer", async () => {
    const server = new Server()
    const lie = {
      nodeId: 'x',
      nodeName: 'liar',
      region: '',
      grpcAddress: '',
      httpUrl: '',
      role: '',
      positions: [],
      isCandidate: false,
    }
    server.addService(loadPeerProtocol().peer, {
      channel: (stream: ServerDuplexStream<PeerMessage, PeerMessage>) => {
        stream.on('error', () => undefined)
        stream.write({ membership: { members: [lie] } })
      },
    })
    closers.push(() => server.forceShutdown())
    const liar = await new Promise<string>((resolve) =>
      server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (_, port) => resolve(`127.0.0.1:${port}`)),
    )
    const peers = pool()
    const told: unknown[] = []
    peers.listen({ membership: (_, members) => told.push(members) })
    const client = peers.client(liar)
    await until(() => client.state.kind === 'connecting' && client.state.lastError?.code === 'INVALID_REQUEST')
    expect(told).toEqual([])
    const address = await answerer((message, stream) => {
      for (const { id } of message.requests?.requests ?? []) stream.write({ replies: { replies: [{ id }] } })
    })
    const empty = peers.client(address)
    await until(() => empty.state.kind === 'connected')
    await expect(empty.request('write', body, nowMs() + 5_000)).rejects.toThrow(code('WRITE_OUTCOME_UNKNOWN'))
  })

  it('refuses more than its bounds, and what is larger than a message', async () => {
    const address = await answerer(() => undefined)
    const client = pool({ inFlightMax: 3, messageBytesMax: 100, inFlightBytesMax: 150 }).client(address)
    await until(() => client.state.kind === 'connected')
    const deadlineMs = nowMs() + 60_000
    const waiting = [1, 2, 3].map(() => client.request('write', body, deadlineMs).catch((error: unknown) => error))
    await expect(client.request('write', body, deadlineMs)).rejects.toThrow(code('PEER_QUEUE_FULL'))
    await expect(client.request('write', Buffer.alloc(101), deadlineMs)).rejects.toThrow(code('INVALID_REQUEST'))
    await client.close()
    expect(await Promise.all(waiting)).toHaveLength(3)
    await expect(client.request('write', body, deadlineMs)).rejects.toThrow(code('CLOSED'))
  })

  it('says "unknown" of what was sent, at the deadline and when the channel breaks', async () => {
    let seen = 0
    const address = await answerer((message) => {
      seen += message.requests?.requests.length ?? 0
    })
    const client = pool().client(address)
    await until(() => client.state.kind === 'connected')
    await expect(client.request('write', body, nowMs() + 30)).rejects.toThrow(code('WRITE_OUTCOME_UNKNOWN'))
    const pending = client.request('write', body, nowMs() + 60_000).catch((error: unknown) => error)
    await until(() => seen === 2)
    await client.close()
    expect(await pending).toMatchObject({ code: 'WRITE_OUTCOME_UNKNOWN' })
  })

  it('says "not applied" of what was never sent', async () => {
    const peers = pool()
    const client = peers.client('127.0.0.1:1')
    await expect(client.request('write', body, nowMs() + 1_000)).rejects.toThrow(code('PEER_UNREACHABLE'))
    await until(() => client.state.kind === 'connecting' && client.state.lastError !== undefined)
    await expect(client.request('write', body, nowMs() + 1_000)).rejects.toMatchObject({
      code: 'PEER_UNREACHABLE',
      outcome: 'not-applied',
    })
    const address = await answerer(() => undefined)
    const other = peers.client(address)
    await until(() => other.state.kind === 'connected')
    // Pushed in this turn, closed in this turn: the transport never got it.
    const pending = other.request('write', body, nowMs() + 1_000).catch((error: unknown) => error)
    void other.close()
    expect(await pending).toMatchObject({ outcome: 'not-applied' })
  })

  it('gives a request that expired before it left no second life', async () => {
    const seen: number[] = []
    const address = await answerer((message) =>
      seen.push(...(message.requests?.requests ?? []).map(({ timeoutMs }) => timeoutMs)),
    )
    const client = pool().client(address)
    await until(() => client.state.kind === 'connected')
    const late = client.request('write', body, nowMs() - 1).catch((error: unknown) => error)
    const good = client.request('write', body, nowMs() + 60_000).catch((error: unknown) => error)
    expect(['DEADLINE_EXCEEDED', 'WRITE_OUTCOME_UNKNOWN']).toContain(((await late) as { code: string }).code)
    await until(() => seen.length > 0)
    expect(seen.at(-1)).toBeGreaterThan(50_000)
    await client.close()
    await good
  })

  it('finds a half-open connection, fails what was sent on it, and dials again', async () => {
    const primary = await startPrimary({ peer: { keepaliveMs: 20, silenceMs: 100 } })
    const path = await link(primary)
    const client = pool({ keepaliveMs: 20, silenceMs: 100, connectTimeoutMs: 100 }).client(path.address)
    await until(() => client.state.kind === 'connected')
    path.freeze()
    await expect(client.request('call', body, nowMs() + 60_000)).rejects.toThrow(code('WRITE_OUTCOME_UNKNOWN'))
    expect(client.state.kind).not.toBe('connected')
    path.thaw()
    await until(() => client.state.kind === 'connected')
    expect(path.connections).toBeGreaterThan(1)
  })

  it('closes channels that nobody uses, but not the pinned one', async () => {
    const [a, b, c] = await Promise.all([1, 2, 3].map(() => answerer(() => undefined)))
    const peers = pool({ clientIdleMs: 40, clientsMax: 2 })
    const pinned = peers.pin(a)
    const idle = peers.client(b as string)
    expect(peers.peek(b as string)).toBe(idle)
    await until(() => idle.state.kind === 'closed')
    expect(peers.peek(b as string)).toBeUndefined()
    expect(peers.client(a as string)).toBe(pinned)
    peers.client(b as string)
    peers.client(c as string)
    expect(peers.peek(b as string)).toBeUndefined()
    await until(() => pinned?.state.kind === 'connected')
  })
})

describe('membership and status', () => {
  it('reach every replica from the primary', async () => {
    const primary = await startPrimary({ region: 'gru' })
    const announcer = new MembershipAnnouncer({
      clock: systemClock,
      server: primary.server,
      members: primary.members,
      positions: primary.positions,
    })
    closers.push(() => announcer.stop())
    primary.positions.onChange(() => announcer.membersChanged())
    announcer.start()
    const replicas = await Promise.all(['r1', 'r2'].map((name) => start({ name, region: name })))
    const position = { txid: txid(3n), checksum: checksum((1n << 63n) | 3n) }
    for (const replica of replicas) {
      const reporter = new PositionReporter()
      reporter.update({ database: 'app.db', epoch: epoch(1), durable: position, applied: position })
      replica.peers.listen({
        connected: (client) => reporter.attach(client),
        membership: (_, members) => replica.members.replace(members),
      })
      replica.peers.client(primary.address)
    }
    const names = (node: TestNode) =>
      node.members
        .all()
        .map((member) => `${member.nodeName}:${member.role}:${member.positions[0]?.durable.txid ?? '-'}`)
    await until(() => names(replicas[0]!).length === 3 && names(replicas[1]!).length === 3)
    expect(names(primary)).toEqual(['primary:primary:-', 'r1:replica:3', 'r2:replica:3'])
    await until(() => names(replicas[0]!).includes('r2:replica:3'))
    expect(names(replicas[0]!)).toEqual(['r1:replica:-', 'primary:primary:-', 'r2:replica:3'])
    await replicas[1]?.close()
    await until(() => names(replicas[0]!).length === 2)
  })

  it('is told to who knows the key only', async () => {
    const node = await startPrimary({ keys: [KEY], region: 'gru' })
    await expect(fetchStatus(node.address, { keys: [] })).rejects.toThrow(code('UNAUTHENTICATED'))
    await expect(fetchStatus(node.address, { keys: ['a wrong key of length'] })).rejects.toThrow(
      code('UNAUTHENTICATED'),
    )
    expect(await fetchStatus(node.address, { keys: [KEY] })).toEqual(node.status())
    await expect(fetchStatus('127.0.0.1:1', { keys: [KEY], timeoutMs: 500 })).rejects.toThrow(code('PEER_UNREACHABLE'))
  })
})
