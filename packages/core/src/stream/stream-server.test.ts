import http from 'node:http'
import http2 from 'node:http2'
import net from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { systemClock } from '../base/clock.ts'
import { isClusterError } from '../errors/cluster-error.ts'
import { isTokenAnswer, signToken } from '../request/cluster-token.ts'
import { formatPosition } from '../position/position.ts'
import { StreamServer } from './stream-server.ts'
import { resolveStreamServerOptions } from './stream-server-options.ts'
import { FakeDatabase, fakePosition } from './test-support/fake-database.ts'
import { CLUSTER_ID, FakeNode } from './test-support/fake-node.ts'
import { ManualClock } from '../base/test-support/manual-clock.ts'
import { http1Request, http2Request, RawReplica, rawPositionMap } from './test-support/raw-client.ts'
import { until } from './test-support/until.ts'

const KEY = 'a cluster key of enough length'
const NO_OFFICE = { promote: () => Promise.resolve(), handOff: () => Promise.resolve() }
const nodes: FakeNode[] = []
const replicas: RawReplica[] = []

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

afterEach(async () => {
  await Promise.all(replicas.splice(0).map((replica) => replica.close()))
  await Promise.all(nodes.splice(0).map((node) => node.server.close()))
})

describe.each([
  { protocol: 'HTTP/1.1', request: http1Request },
  { protocol: 'h2c', request: http2Request },
])('over $protocol', ({ request }) => {
  test('/info is LiteFS’s document, pretty printed, with ours behind it', async () => {
    const node = await start()
    node.create('my.db', 3)
    const answer = await request(`${node.url}/info`)
    expect(answer.status).toBe(200)
    expect(answer.headers['content-type']).toBe('text/plain; charset=utf-8')
    expect(answer.headers['litefs-id']).toBe('000000000000ABCD')
    expect(answer.headers['litefs-cluster-id']).toBe(CLUSTER_ID)
    expect(answer.text).toBe(`{
  "clusterID": "${CLUSTER_ID}",
  "isPrimary": true,
  "candidate": true,
  "path": "/data",
  "primary": {
    "hostname": "hosta"
  },
  "litefleet": {
    "protocol": 1,
    "name": "gru-1",
    "region": "gru",
    "grpc": "127.0.0.1:20203",
    "databases": {
      "my.db": {
        "position": "${formatPosition(fakePosition(3))}",
        "epoch": 0
      }
    }
  }
}
`)
  })

  test('a node without a cluster id leaves it out of headers and document', async () => {
    const node = await start()
    node.cluster = undefined
    const answer = await request(`${node.url}/info`)
    expect(answer.headers).not.toHaveProperty('litefs-cluster-id')
    expect(JSON.parse(answer.text)).not.toHaveProperty('clusterID')
  })

  test('an unknown path is 404 and a wrong method 405, in Go’s words and with the node’s headers', async () => {
    const node = await start()
    for (const path of ['/', '/nope', '/__proto__', '/info/']) {
      const answer = await request(`${node.url}${path}`)
      expect([answer.status, answer.text]).toEqual([404, '404 page not found\n'])
      expect(answer.headers['content-type']).toBe('text/plain; charset=utf-8')
      expect(answer.headers['litefs-id']).toBe('000000000000ABCD')
    }
    for (const [method, path] of [
      ['POST', '/info'],
      ['GET', '/stream'],
      ['DELETE', '/export'],
      ['PUT', '/events'],
    ] as const) {
      const answer = await request(`${node.url}${path}`, method)
      expect([answer.status, answer.text]).toEqual([405, 'method not allowed\n'])
    }
  })

  test('/export gives the whole file and frees its copy', async () => {
    const node = await start()
    const database = node.create('my.db', 1)
    const answer = await request(`${node.url}/export?name=my.db`)
    expect(answer.status).toBe(200)
    expect(answer.headers['content-type']).toBe('application/octet-stream')
    expect(answer.text).toBe('SQLite format 3\0'.repeat(100))
    await until(() => database.openSpools === 0)
  })

  test('/export without a name is 400, of an unknown database 404', async () => {
    const node = await start()
    expect(await request(`${node.url}/export`)).toMatchObject({ status: 400, text: 'name required\n' })
    expect(await request(`${node.url}/export?name=x`)).toMatchObject({ status: 404, text: 'database not found\n' })
  })

  test('/export of a database that cannot be copied is 500', async () => {
    const node = await start()
    node.create('my.db', 1).beforeSnapshot = () => Promise.reject(new Error('disk'))
    expect((await request(`${node.url}/export?name=my.db`)).status).toBe(500)
    expect(node.failures).toHaveLength(1)
  })

  test('/export breaks off when the copy fails on the way, so that no part is taken for the whole', async () => {
    const node = await start()
    const database = node.create('my.db', 1)
    database.failSnapshot = true
    await expect(request(`${node.url}/export?name=my.db`)).rejects.toThrow()
    await until(() => database.openSpools === 0)
  })
})

test('/stream over HTTP/1.1 is 426', async () => {
  const node = await start()
  const answer = await http1Request(`${node.url}/stream`, 'POST')
  expect(answer).toMatchObject({ status: 426, text: 'Upgrade to HTTP/2 required\n' })
})

test('/stream from this node itself is 400', async () => {
  const node = await start()
  const replica = connect(node.url, rawPositionMap(), { headers: { 'litefs-id': '000000000000abcd' } })
  await until(() => replica.isClosed)
  expect([replica.headers?.[':status'], replica.text]).toEqual([400, 'cannot connect to self\n'])
})

test('/stream of a node that is not primary is 503', async () => {
  const node = await start()
  node.primary = false
  const answer = await http2Request(`${node.url}/stream`, 'POST')
  expect(answer).toMatchObject({ status: 503, text: 'lease expired\n' })
})

test.each([
  ['truncated', Buffer.from('00000001000000046e2e', 'hex')],
  ['of a nameless database', rawPositionMap(['', '1', '8000000000000001'])],
])('a position map that is %s is 400', async (_what, positions) => {
  const node = await start()
  const replica = connect(node.url, positions, { read: false })
  let text = ''
  replica.stream.on('data', (piece: Buffer) => {
    text += piece.toString()
  })
  await until(() => replica.isClosed)
  expect([replica.headers?.[':status'], text]).toEqual([400, 'malformed position map\n'])
})

test('a position map longer than the bound is 413 and is not read to its end', async () => {
  const node = await start({ options: { positionMapBytesMax: 8192 } })
  const replica = connect(node.url, Buffer.alloc(1_000_000), { read: false })
  replica.stream.resume()
  await until(() => replica.isClosed)
  expect(replica.headers?.[':status']).toBe(413)
})

test('a position map that does not come in time is 408', async () => {
  const clock = new ManualClock()
  const node = await start({ clock })
  const session = http2.connect(node.url)
  const stream = session.request({ ':method': 'POST', ':path': '/stream' })
  let status: unknown
  stream.on('response', (headers) => {
    status = headers[':status']
  })
  stream.resume()
  const closed = new Promise((resolve) => stream.once('close', resolve))
  await new Promise((resolve) => session.once('remoteSettings', resolve))
  await new Promise((resolve) => session.ping(resolve))
  clock.advance(10_000)
  await closed
  expect(status).toBe(408)
  session.destroy()
})

test('more streams than allowed are 503; a place is free again when a replica leaves', async () => {
  const node = await start({ options: { streamsMax: 1 } })
  const first = connect(node.url, rawPositionMap())
  await until(() => first.count('READY') === 1)
  expect((await http2Request(`${node.url}/stream`, 'POST')).status).toBe(503)
  await first.close()
  await until(() => node.server.streams().length === 0)
  const second = connect(node.url, rawPositionMap())
  await until(() => second.count('READY') === 1)
})

describe('a cluster key', () => {
  test('beyond loopback is required to listen', async () => {
    const node = await start()
    const options = resolveStreamServerOptions({ port: 0, host: '0.0.0.0', interop: true })
    const server = new StreamServer({ node, keys: [], clock: systemClock, options })
    const error: unknown = await server.listen().catch((reason: unknown) => reason)
    expect(isClusterError(error, 'INSECURE_LISTENER')).toBe(true)
  })

  test('closes /stream and /export to callers without a token, or with a wrong one, also with interop', async () => {
    const wrong =
      signToken(['another key of enough length'], 'stream', { clusterId: '', nodeName: 'x' }, Date.now()) ?? ''
    const strict = await start({ keys: [KEY] })
    strict.create('my.db', 1)
    expect(await http2Request(`${strict.url}/stream`, 'POST')).toMatchObject({
      status: 401,
      text: 'cluster token required\n',
    })
    expect(await http1Request(`${strict.url}/export?name=my.db`)).toMatchObject({ status: 401 })
    const open = await start({ keys: [KEY], options: { interop: true } })
    open.create('my.db', 1)
    for (const node of [strict, open]) {
      const headers = { 'litefleet-token': wrong }
      expect(await http2Request(`${node.url}/stream`, 'POST', headers)).toMatchObject({
        status: 401,
        text: 'cluster token refused\n',
      })
      expect(await http1Request(`${node.url}/export?name=my.db`, 'GET', headers)).toMatchObject({ status: 401 })
    }
  })

  test('with interop lets LiteFS peers in', async () => {
    const node = await start({ keys: [KEY], options: { interop: true } })
    node.create('my.db', 1)
    const replica = connect(node.url, rawPositionMap())
    await until(() => replica.count('READY') === 1)
    expect(node.server.streams()).toMatchObject([{ kind: 'litefs', nodeName: undefined, nodeId: '00000000DEADBEEF' }])
    expect((await http1Request(`${node.url}/export?name=my.db`)).status).toBe(200)
  })

  test('a token opens them once, and is answered with proof of the key', async () => {
    const node = await start({ keys: [KEY] })
    node.create('my.db', 1)
    const token = signToken([KEY], 'stream', { clusterId: CLUSTER_ID, nodeName: 'replica-1' }, Date.now()) ?? ''
    const headers = { 'litefleet-token': token, 'litefleet-protocol': '1' }
    const replica = connect(node.url, rawPositionMap(), { headers })
    await until(() => replica.count('READY') === 1)
    expect(isTokenAnswer([KEY], token, String(replica.headers?.['litefleet-answer']))).toBe(true)
    expect(node.server.streams()).toMatchObject([{ kind: 'litefleet', nodeName: 'replica-1' }])
    expect(await http2Request(`${node.url}/stream`, 'POST', headers)).toMatchObject({ status: 401 })
  })

  test('a token of another cluster is 409', async () => {
    const node = await start({ keys: [KEY] })
    const token = signToken([KEY], 'stream', { clusterId: 'LFSCFFFFFFFFFFFFFFFF', nodeName: 'x' }, Date.now()) ?? ''
    expect((await http2Request(`${node.url}/stream`, 'POST', { 'litefleet-token': token })).status).toBe(409)
  })

  test('/info keeps positions from callers without a token', async () => {
    const node = await start({ keys: [KEY] })
    node.create('my.db', 1)
    const read = async (headers: Record<string, string>): Promise<unknown> =>
      JSON.parse((await http1Request(`${node.url}/info`, 'GET', headers)).text)
    expect(await read({})).not.toHaveProperty('litefleet.databases')
    const token = signToken([KEY], 'stream', { clusterId: '', nodeName: 'x' }, Date.now()) ?? ''
    expect(await read({ 'litefleet-token': token })).toHaveProperty(['litefleet', 'databases', 'my.db'])
  })
})

test('a Litefleet replica of another protocol is refused and told ours', async () => {
  const node = await start()
  const headers = { 'litefleet-node': 'b', 'litefleet-protocol': '99' }
  const answer = await http2Request(`${node.url}/stream`, 'POST', headers)
  expect(answer.status).toBe(400)
  expect(answer.headers['litefleet-protocol']).toBe('1')
})

test('a Litefleet replica is told the epochs of the databases it asked for; LiteFS is told nothing it does not know', async () => {
  const node = await start()
  const database = node.create('my.db', 5)
  database.epochs = [
    { epoch: 3 as never, firstTxid: fakePosition(1).txid, checksumBefore: 0n as never },
    { epoch: 7 as never, firstTxid: fakePosition(4).txid, checksumBefore: fakePosition(3).checksum },
  ]
  const headers = { 'litefleet-node': 'b', 'litefleet-protocol': '1' }
  const ours = connect(node.url, rawPositionMap(), { path: '/stream?filter=my.db', headers })
  const theirs = connect(node.url, rawPositionMap())
  await until(() => ours.headers !== undefined && theirs.headers !== undefined)
  expect(ours.headers?.['litefleet-epochs']).toBe('my.db=3:1:0,7:4:8000010000000003')
  expect(Object.keys(theirs.headers ?? {}).sort()).toEqual([':status', 'date', 'litefs-cluster-id', 'litefs-id'])
})

describe('connections', () => {
  test('one that says nothing is closed after the request timeout', async () => {
    const clock = new ManualClock()
    const node = await start({ clock })
    const socket = net.connect(Number(new URL(node.url).port), '127.0.0.1')
    await new Promise((resolve) => socket.once('connect', resolve))
    await until(() => clock.timerCount > 0)
    const closed = new Promise((resolve) => socket.once('close', resolve))
    clock.advance(10_000)
    await closed
  })

  test('one that sends headers for ever is closed after the request timeout', async () => {
    const clock = new ManualClock()
    const node = await start({ clock })
    const socket = net.connect(Number(new URL(node.url).port), '127.0.0.1')
    const closed = new Promise((resolve) => socket.once('close', resolve))
    socket.on('error', () => undefined)
    socket.write('GET /info HTTP/1.1\r\nX-A: ')
    await until(() => clock.timerCount > 0)
    const drip = setInterval(() => socket.write('a'), 1)
    clock.advance(10_000)
    await closed
    clearInterval(drip)
  })

  test('HTTP/1.1 keeps a connection for several requests', async () => {
    const node = await start()
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
    const ports = new Set<number | undefined>()
    for (let i = 0; i < 3; i++) {
      await new Promise<void>((resolve, reject) => {
        const request = http.get(`${node.url}/info`, { agent }, (response) => {
          ports.add(response.socket.localPort)
          response.resume()
          response.once('end', resolve)
        })
        request.once('error', reject)
      })
    }
    agent.destroy()
    expect(ports.size).toBe(1)
  })

  test('the first bytes may come one by one, in either protocol', async () => {
    const node = await start()
    const drip = async (bytes: Buffer): Promise<Buffer> => {
      const socket = net.connect({ port: Number(new URL(node.url).port), host: '127.0.0.1', noDelay: true })
      let answer = Buffer.alloc(0)
      socket.on('data', (piece) => {
        answer = Buffer.concat([answer, piece])
      })
      for (const byte of bytes) {
        socket.write(Buffer.of(byte))
        await new Promise((resolve) => setTimeout(resolve, 1))
      }
      await until(() => answer.length > 0)
      socket.destroy()
      return answer
    }
    expect((await drip(Buffer.from('PUT /info HTTP/1.1\r\nHost: a\r\n\r\n'))).toString()).toContain('405')
    const preface = Buffer.concat([
      Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
      Buffer.from('000000040000000000', 'hex'),
    ])
    expect((await drip(preface)).readUInt8(3)).toBe(4) // a SETTINGS frame
  })

  test('beyond the bound are closed at once', async () => {
    const node = await start({ options: { connectionsMax: 1 } })
    const first = connect(node.url, rawPositionMap())
    await until(() => first.count('READY') === 1)
    await expect(http1Request(`${node.url}/info`)).rejects.toThrow()
  })

  test('an HTTP/2 connection that does not answer pings is closed', async () => {
    const clock = new ManualClock()
    const node = await start({ clock })
    const socket = net.connect(Number(new URL(node.url).port), '127.0.0.1')
    const closed = new Promise((resolve) => socket.once('close', resolve))
    // Preface and SETTINGS, and never an answer to anything.
    socket.write(Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'))
    socket.write(Buffer.from('000000040000000000', 'hex'))
    socket.resume()
    await until(() => clock.timerCount >= 2)
    clock.advance(15_000)
    clock.advance(15_000)
    await closed
  })

  test('an HTTP/2 connection without requests is closed after the idle time', async () => {
    const clock = new ManualClock()
    const node = await start({ clock })
    const session = http2.connect(node.url)
    const closed = new Promise((resolve) => session.once('close', resolve))
    await new Promise((resolve) => session.once('remoteSettings', resolve))
    for (let i = 0; i < 4; i++) {
      clock.advance(15_000)
      if (!session.closed) await new Promise((resolve) => session.ping(resolve)).catch(() => undefined)
    }
    await closed
  })
})

test('close ends streams with END and leaves no listener behind', async () => {
  const node = await start()
  const database = node.create('my.db', 2)
  const replica = connect(node.url, rawPositionMap())
  await until(() => replica.count('HEARTBEAT') === 1)
  await node.server.close()
  await until(() => replica.isClosed)
  expect(replica.types).toBe('LTX READY HEARTBEAT END')
  expect([database.listenerCount, node.listenerCount]).toEqual([0, 0])
})

test('close does not wait longer than its timeout for a replica that takes nothing', async () => {
  const database = new FakeDatabase('my.db')
  database.snapshotPayloadBytes = 3_000_000
  database.commit()
  const node = await start({ databases: [database] })
  connect(node.url, rawPositionMap(), { read: false })
  await until(() => (node.server.streams()[0]?.unsentBytes ?? 0) > 0)
  await node.server.close()
  await until(() => database.openSpools === 0)
})

describe('the office of the primary', () => {
  test('cannot be moved by LiteFS nodes unless that is switched on', async () => {
    const node = await start()
    for (const path of ['/promote', '/handoff?nodeID=00000000DEADBEEF']) {
      const answer = await http1Request(`${node.url}${path}`, 'POST')
      expect(answer.status).toBe(403)
      expect(answer.text).toContain('interop.handoff')
      expect((await http1Request(`${node.url}${path}`)).status).toBe(405)
    }
  })

  test('needs the cluster key, or interop, as everything does', async () => {
    const node = await start({ keys: [KEY], office: NO_OFFICE })
    expect((await http1Request(`${node.url}/promote`, 'POST')).status).toBe(401)
  })

  test('is moved as they ask, and they are told when it has moved, or why not', async () => {
    const asked: string[] = []
    const moved = Promise.withResolvers<void>()
    const office = {
      promote: () => (asked.push('promote'), moved.promise),
      handOff: (nodeId: string) => (asked.push(nodeId), Promise.reject(new Error('it is not connected\n  a hint'))),
    }
    const node = await start({ office })
    const refused = await http1Request(`${node.url}/handoff?nodeID=00000000deadbeef`, 'POST')
    expect(refused).toMatchObject({ status: 500, text: 'cannot handoff: it is not connected\n' })
    for (const id of ['', '?nodeID=', '?nodeID=xyz']) {
      const answer = await http1Request(`${node.url}/handoff${id}`, 'POST')
      expect(answer).toMatchObject({ status: 400, text: 'invalid node id\n' })
    }
    const promoting = http1Request(`${node.url}/promote`, 'POST')
    await until(() => asked.includes('promote'))
    moved.resolve()
    expect(await promoting).toMatchObject({ status: 200, text: '' })
    expect(asked).toEqual(['00000000DEADBEEF', 'promote'])
  })

  test('goes to a LiteFS replica with the last frame but one of its stream, and only once it was sent everything', async () => {
    const node = await start()
    const database = node.create('n.db', 1)
    expect(node.server.hasSentAll('00000000DEADBEEF')).toBeUndefined()
    const replica = connect(node.url, rawPositionMap())
    await until(() => replica.count('READY') === 1)
    database.commit(3)
    await until(() => node.server.hasSentAll('00000000DEADBEEF') === true)
    expect(node.server.handOver('00000000DEADBEEF', 'session-1')).toBe(true)
    expect(node.server.handOver('0000000000000001', 'session-1')).toBe(false)
    node.server.endStreams()
    await until(() => replica.isClosed)
    const id = Buffer.from('session-1').toString('hex')
    expect(replica.bytes.toString('hex').endsWith(`0000000500000009${id}00000003`)).toBe(true)
  })
})
