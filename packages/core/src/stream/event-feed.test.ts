import http from 'node:http'
import http2 from 'node:http2'
import { afterEach, describe, expect, test } from 'vitest'
import { EMPTY_CHECKSUM } from '../position/checksum.ts'
import { txid } from '../position/txid.ts'
import { databaseName } from '../request/database-name.ts'
import { EVENTS_MAX } from './event-feed.ts'
import { formatInit, formatNodeEvent, type NodeEvent } from './node-event.ts'
import { fakePosition } from './test-support/fake-database.ts'
import { FakeNode } from './test-support/fake-node.ts'
import { http1Request } from './test-support/raw-client.ts'
import { until } from './test-support/until.ts'

const nodes: FakeNode[] = []
const tx: NodeEvent = {
  kind: 'tx',
  database: databaseName('my.db'),
  position: fakePosition(0x274),
  pageSize: 4096,
  commit: 4,
  timestampMs: Date.UTC(2026, 10, 20, 23, 48, 52, 374),
}

async function start(...args: Parameters<typeof FakeNode.start>): Promise<FakeNode> {
  const node = await FakeNode.start(...args)
  nodes.push(node)
  return node
}

interface Subscriber {
  text: string
  isClosed: boolean
  readonly contentType: string
  readonly body: { pause(): void; resume(): void; destroy(): void }
}

function overHttp1(url: string): Promise<Subscriber> {
  return new Promise((resolve, reject) => {
    http
      .get(`${url}/events`, { agent: false }, (response) => {
        const subscriber = {
          text: '',
          isClosed: false,
          contentType: String(response.headers['content-type']),
          body: response,
        }
        response.setEncoding('utf8').on('data', (piece: string) => {
          subscriber.text += piece
        })
        response
          .on('error', () => undefined)
          .on('close', () => {
            subscriber.isClosed = true
          })
        resolve(subscriber)
      })
      .on('error', reject)
  })
}

function overHttp2(url: string): Promise<Subscriber> {
  return new Promise((resolve) => {
    const session = http2.connect(url)
    session.on('error', () => undefined)
    const stream = session.request({ ':path': '/events' })
    stream.on('error', () => undefined)
    stream.on('response', (headers) => {
      const subscriber = { text: '', isClosed: false, contentType: String(headers['content-type']), body: stream }
      stream.setEncoding('utf8').on('data', (piece: string) => {
        subscriber.text += piece
      })
      stream.on('close', () => {
        subscriber.isClosed = true
        session.destroy()
      })
      resolve(subscriber)
    })
  })
}

afterEach(async () => {
  await Promise.all(nodes.splice(0).map((node) => node.server.close()))
})

describe('the lines', () => {
  test('are LiteFS’s', () => {
    expect(formatInit(true, 'hosta')).toBe('{"type":"init","data":{"isPrimary":true}}\n')
    expect(formatInit(false, 'hosta')).toBe('{"type":"init","data":{"isPrimary":false,"hostname":"hosta"}}\n')
    expect(formatInit(false, '')).toBe('{"type":"init","data":{"isPrimary":false}}\n')
    expect(formatNodeEvent({ kind: 'primary-change', isPrimary: false, hostname: 'hosta' })).toBe(
      '{"type":"primaryChange","data":{"isPrimary":false,"hostname":"hosta"}}\n',
    )
    expect(formatNodeEvent(tx)).toBe(
      '{"type":"tx","db":"my.db","data":{"txID":"0000000000000274","postApplyChecksum":"8000010000000274","pageSize":4096,"commit":4,"timestamp":"2026-11-20T23:48:52.374Z"}}\n',
    )
  })

  test('of a drop have commit 0 and the checksum of nothing', () => {
    const drop = formatNodeEvent({ ...tx, commit: 0, position: { txid: txid(9n), checksum: EMPTY_CHECKSUM } })
    expect(drop).toContain('"postApplyChecksum":"8000000000000000","pageSize":4096,"commit":0')
  })

  test.each([
    [0, '2026-11-20T23:48:50Z'],
    [100, '2026-11-20T23:48:50.1Z'],
    [120, '2026-11-20T23:48:50.12Z'],
    [7, '2026-11-20T23:48:50.007Z'],
  ])('trim the zeros of %i ms', (ms, expected) => {
    const line = formatNodeEvent({ ...tx, timestampMs: Date.UTC(2026, 10, 20, 23, 48, 50, ms) })
    expect(line).toContain(`"timestamp":"${expected}"`)
  })
})

describe.each([
  ['HTTP/1.1', overHttp1],
  ['h2c', overHttp2],
])('over %s', (_protocol, subscribe) => {
  test('the first line is init, events follow as they happen', async () => {
    const node = await start()
    const subscriber = await subscribe(node.url)
    const init = formatInit(true, '')
    await until(() => subscriber.text === init)
    node.server.publish(tx)
    await until(() => subscriber.text === init + formatNodeEvent(tx))
    expect(subscriber.contentType).toBe('application/json')
    subscriber.body.destroy()
    await until(() => node.server.subscriberCount === 0)
  })

  test('a subscriber that does not read is cut off when its buffer is full; others stay', async () => {
    const node = await start()
    const slow = await subscribe(node.url)
    const other = await subscribe(node.url)
    slow.body.pause()
    const line = formatNodeEvent(tx)
    let count = 0
    while (node.server.subscriberCount === 2) {
      for (let i = 0; i < 200; i++, count++) node.server.publish(tx)
      const { length } = formatInit(true, '')
      await until(() => other.text.length === length + count * line.length)
    }
    expect(count).toBeGreaterThan(EVENTS_MAX)
    slow.body.resume()
    await until(() => slow.isClosed)
    expect(other.isClosed).toBe(false)
  })

  test('close ends the subscription', async () => {
    const node = await start()
    const subscriber = await subscribe(node.url)
    await node.server.close()
    await until(() => subscriber.isClosed)
    expect(subscriber.text).toBe(formatInit(true, ''))
  })
})

test('more subscribers than allowed are 503', async () => {
  const node = await start({ options: { eventSubscribersMax: 1 } })
  await overHttp1(node.url)
  expect((await http1Request(`${node.url}/events`)).status).toBe(503)
})
