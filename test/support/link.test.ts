import { once } from 'node:events'
import net from 'node:net'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Wire } from './link.ts'

let server: net.Server
let wire: Wire
/** What the far side received, and its newest connection. */
let received = ''
let far: net.Socket | undefined
let heard = ''

beforeEach(async () => {
  received = ''
  heard = ''
  far = undefined
  server = net.createServer((socket) => {
    far = socket
    socket.setEncoding('utf8').on('data', (text: string) => (received += text))
    socket.on('error', () => undefined)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  wire = await Wire.open({ host: '127.0.0.1', port: (server.address() as net.AddressInfo).port })
})

afterEach(async () => {
  await wire.close()
  server.close()
})

async function dial(): Promise<net.Socket> {
  const socket = net.connect(Number(wire.address.split(':')[1]), '127.0.0.1')
  socket.setEncoding('utf8').on('data', (text: string) => (heard += text))
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  return socket
}

/** Also when it was ended by a reset. */
function closed(socket: net.Socket): Promise<void> {
  socket.on('error', () => undefined)
  return new Promise((resolve) => socket.once('close', () => resolve()))
}

async function arrives(text: string): Promise<void> {
  await expect.poll(() => received, { interval: 2 }).toBe(text)
}

test('a whole wire hands on both ways, ends included', async () => {
  const near = await dial()
  near.write('question')
  await arrives('question')
  far?.write('answer')
  await expect.poll(() => heard).toBe('answer')
  const ended = once(near, 'end')
  far?.end()
  await ended
})

test('a dropped wire ends connections and takes no new ones until it is healed', async () => {
  const near = await dial()
  near.write('a')
  await arrives('a')
  const ended = closed(near)
  wire.drop()
  await ended
  await closed(net.connect(Number(wire.address.split(':')[1]), '127.0.0.1'))
  wire.heal()
  const again = await dial()
  again.write('b')
  await arrives('ab')
})

test('a wire that hangs in one direction still hands on in the other, and what it held arrives when it is healed', async () => {
  const near = await dial()
  near.write('a')
  await arrives('a')
  wire.hang('out')
  near.write('b')
  far?.write('answer')
  await expect.poll(() => heard).toBe('answer')
  expect(received).toBe('a')
  wire.heal()
  await arrives('ab')
})

test('a wire that hangs holds no more than its bound', async () => {
  const near = await dial()
  wire.hang('out')
  const piece = Buffer.alloc(1 << 16, 'x')
  // The sender's own buffer fills in the end.
  for (let i = 0; i < 400; i++) near.write(piece)
  await expect.poll(() => near.writableLength).toBeGreaterThan(0)
  wire.heal()
  await expect.poll(() => received.length, { timeout: 20_000 }).toBe(400 * piece.length)
})

test('a delayed or throttled wire hands on everything, later', async () => {
  const near = await dial()
  wire.delay(30)
  const startMs = performance.now()
  near.write('a')
  await arrives('a')
  expect(performance.now() - startMs).toBeGreaterThan(25)
  wire.heal()
  wire.throttle(20_000)
  near.write('x'.repeat(2_000))
  await arrives(`a${'x'.repeat(2_000)}`)
  expect(performance.now() - startMs).toBeGreaterThan(25 + 75)
})

test('a garbled wire hands on exactly one byte that was not sent', async () => {
  const near = await dial()
  near.write('a')
  await arrives('a')
  wire.garble(2)
  far?.write('ab')
  await expect.poll(() => heard).toBe('ab')
  expect(wire.isGarbled).toBe(false)
  far?.write('abcd')
  await expect.poll(() => heard).toBe('abqbcd')
  expect(wire.isGarbled).toBe(true)
})
