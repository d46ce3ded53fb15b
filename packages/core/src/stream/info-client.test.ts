import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { systemClock } from '../base/clock.ts'
import { epoch } from '../position/epoch.ts'
import { InfoClient } from './info-client.ts'
import { fakePosition } from './test-support/fake-database.ts'
import { CLUSTER_ID, FakeNode } from './test-support/fake-node.ts'
import { ManualClock } from '../base/test-support/manual-clock.ts'
import { until } from './test-support/until.ts'

const KEY = 'a cluster key of enough length'
const closers: (() => Promise<unknown>)[] = []

async function serve(handler: http.RequestListener): Promise<string> {
  const server = http.createServer(handler)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closers.push(() => {
    server.closeAllConnections()
    return new Promise((resolve) => server.close(resolve))
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

function client(o: Partial<ConstructorParameters<typeof InfoClient>[0]> = {}): InfoClient {
  return new InfoClient({
    keys: [],
    nodeName: 'b',
    clusterId: () => CLUSTER_ID,
    clock: systemClock,
    route: (address) => address,
    ...o,
  })
}

afterEach(async () => {
  for (const close of closers.splice(0)) await close()
})

describe('of a Litefleet node', () => {
  test('everything it says is understood', async () => {
    const node = await FakeNode.start()
    closers.push(() => node.server.close())
    node.create('my.db', 3)
    expect(await client().ask(node.url)).toEqual({
      nodeId: '000000000000ABCD',
      isProven: false,
      clusterId: CLUSTER_ID,
      isPrimary: true,
      candidate: true,
      path: '/data',
      primaryHostname: 'hosta',
      litefleet: {
        protocol: 1,
        name: 'gru-1',
        region: 'gru',
        grpc: '127.0.0.1:20203',
        databases: new Map([['my.db', { position: fakePosition(3), epoch: epoch(0) }]]),
      },
    })
  })

  test('with the key it proves itself and names its databases, without it does neither', async () => {
    const node = await FakeNode.start({ keys: [KEY] })
    closers.push(() => node.server.close())
    node.create('my.db', 3)
    const proven = await client({ keys: [KEY] }).ask(node.url)
    expect([proven.isProven, proven.litefleet?.databases.size]).toEqual([true, 1])
    const stranger = await client({ keys: ['another key of enough length'] }).ask(node.url)
    expect([stranger.isProven, stranger.litefleet?.databases.size]).toEqual([false, 0])
  })
})

test('of a LiteFS node: what it has, and no litefleet', async () => {
  const url = await serve((_request, response) => {
    response.setHeader('Litefs-Id', '00000000DEADBEEF')
    response.end(
      '{\n  "isPrimary": false,\n  "candidate": false,\n  "path": "/var/lib/litefs",\n  "primary": {\n    "hostname": ""\n  }\n}\n',
    )
  })
  expect(await client().ask(url)).toEqual({
    nodeId: '00000000DEADBEEF',
    isProven: false,
    clusterId: undefined,
    isPrimary: false,
    candidate: false,
    path: '/var/lib/litefs',
    primaryHostname: '',
    litefleet: undefined,
  })
})

test.each([
  ['no document', 200, 'hello'],
  ['another document', 200, '{"a":1}'],
  ['an error status', 500, '{"isPrimary":true}'],
])('%s is a failure', async (_what, status, text) => {
  const url = await serve((_request, response) => response.writeHead(status).end(text))
  await expect(client().ask(url)).rejects.toMatchObject({ code: 'STREAM_FAILED' })
})

test('nobody listening is a failure', async () => {
  await expect(client().ask('http://127.0.0.1:1')).rejects.toMatchObject({ code: 'STREAM_FAILED' })
})

test('an answer that does not come is given up after the timeout', async () => {
  const clock = new ManualClock()
  let isAsked = false
  const url = await serve(() => {
    isAsked = true
  })
  const asked = client({ clock, timeoutMs: 700 }).ask(url)
  const failed = expect(asked).rejects.toMatchObject({ code: 'STREAM_FAILED' })
  await until(() => isAsked)
  clock.advance(700)
  await failed
  expect(clock.timerCount).toBe(0)
})

test('the caller can give up', async () => {
  let isAsked = false
  const url = await serve(() => {
    isAsked = true
  })
  const abort = new AbortController()
  const asked = client().ask(url, abort.signal)
  const failed = expect(asked).rejects.toThrow('enough')
  await until(() => isAsked)
  abort.abort(new Error('enough'))
  await failed
})
