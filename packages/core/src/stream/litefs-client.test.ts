import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { systemClock } from '../base/clock.ts'
import { formatPosition } from '../position/position.ts'
import { LiteFsClient } from './litefs-client.ts'

const servers: http.Server[] = []
afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
})

const client = new LiteFsClient({ nodeId: '00000000000000BB', clock: systemClock, route: (address) => address })

async function serve(answer: (request: http.IncomingMessage, response: http.ServerResponse) => void): Promise<string> {
  const server = http.createServer(answer)
  servers.push(server)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const failed = (reason: RegExp) =>
  expect.objectContaining({ code: 'HANDOFF_FAILED', message: expect.stringMatching(reason) })

test('the office is asked for with the id of this node', async () => {
  const asked: unknown[] = []
  const url = await serve(({ method, url: path }, response) => {
    asked.push([method, path])
    response.end()
  })
  await client.askForOffice(url, 1_000)
  expect(asked).toEqual([['POST', '/handoff?nodeID=00000000000000BB']])
})

test('a refusal is told as LiteFS gives it; so is a node that does not answer', async () => {
  const refusing = await serve((_, response) =>
    response.writeHead(500).end('cannot handoff: target node not connected\n'),
  )
  await expect(client.askForOffice(refusing, 1_000)).rejects.toEqual(failed(/target node not connected/))
  const silent = await serve(() => undefined)
  await expect(client.askForOffice(silent, 50)).rejects.toEqual(failed(/no answer within 50 ms/))
  await expect(client.askForOffice('http://127.0.0.1:1', 1_000)).rejects.toEqual(failed(/ECONNREFUSED/))
})

test('what a LiteFS node has is read from its variables; what was dropped there, or never written, it does not have', async () => {
  const dbs = {
    'app.db': { name: 'app.db', txid: '0000000000000003', checksum: 'a2eb050ac7362d33', locks: {} },
    'gone.db': { name: 'gone.db', txid: '0000000000000007', checksum: '8000000000000000', locks: {} },
    'new.db': { name: 'new.db', txid: '0000000000000000', checksum: '0000000000000000', locks: {} },
  }
  const document = { cmdline: [], memstats: {}, store: { isPrimary: false, candidate: true, dbs } }
  const url = await serve((_, response) => response.end(JSON.stringify(document)))
  const { isPrimary, positions } = await client.state(url, 1_000)
  expect(isPrimary).toBe(false)
  expect([...positions].map(([name, position]) => [name, formatPosition(position)])).toEqual([
    ['app.db', '0000000000000003/a2eb050ac7362d33'],
  ])
})

test.each(['{}', 'no JSON', '{"store":{"isPrimary":true,"dbs":{"a":{"txid":"x","checksum":"y"}}}}'])(
  '%s is no answer of a LiteFS node',
  async (text) => {
    const url = await serve((_, response) => response.end(text))
    await expect(client.state(url, 1_000)).rejects.toEqual(failed(/does not tell what it has/))
  },
)
