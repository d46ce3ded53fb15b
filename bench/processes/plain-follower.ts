/**
 * Baseline of replication lag: the least anybody can do to have a message durable on two more machines' disks.
 *
 * The sender appends and fdatasyncs, then sends the moment at which that was done; a follower appends, fdatasyncs and compares the
 * clock. Whatever arrives during a flush shares the next one.
 */
import { closeSync, fdatasync, openSync, writeSync } from 'node:fs'
import { connect as connectTo, createServer, type Server, type Socket } from 'node:net'
import { promisify } from 'node:util'
import { serveParent } from '../child-program.ts'
import { machineMs } from '../lag.ts'
import { atRate } from '../open-loop.ts'

/** About what a small transaction takes. */
const MESSAGE_BYTES = 12_400
const dataSync = promisify(fdatasync)

/** Appends, then calls back when it is durable; what comes during a flush shares the next one. */
class DurableFile {
  readonly #fd: number
  #waiting: (() => void)[] = []
  #isFlushing = false

  constructor(file: string) {
    this.#fd = openSync(file, 'w')
  }

  append(bytes: Uint8Array, onDurable: () => void): void {
    writeSync(this.#fd, bytes)
    this.#waiting.push(onDurable)
    if (!this.#isFlushing) void this.#flush()
  }

  close(): void {
    closeSync(this.#fd)
  }

  async #flush(): Promise<void> {
    this.#isFlushing = true
    while (this.#waiting.length > 0) {
      const group = this.#waiting
      this.#waiting = []
      await dataSync(this.#fd)
      for (const onDurable of group) onDurable()
    }
    this.#isFlushing = false
  }
}

let file: DurableFile | undefined
let server: Server | undefined
let sockets: Socket[] = []
let lags: number[] = []

function opened(): DurableFile {
  if (file === undefined) throw new Error('listen or connect first')
  return file
}

function listen({ file: name }: { file: string }): Promise<number> {
  file = new DurableFile(name)
  const listening = createServer((socket) => follow(socket))
  server = listening
  return new Promise((resolve) => {
    listening.listen(0, '127.0.0.1', () => {
      const address = listening.address()
      resolve(typeof address === 'object' && address !== null ? address.port : 0)
    })
  })
}

function follow(socket: Socket): void {
  let rest: Buffer = Buffer.alloc(0)
  socket.on('data', (chunk: Buffer) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    while (rest.length >= MESSAGE_BYTES) {
      const message = rest.subarray(0, MESSAGE_BYTES)
      rest = rest.subarray(MESSAGE_BYTES)
      const sentMs = message.readDoubleLE(0)
      opened().append(message, () => lags.push(machineMs() - sentMs))
    }
  })
}

async function connect({ ports, file: name }: { ports: readonly number[]; file: string }): Promise<void> {
  file = new DurableFile(name)
  sockets = ports.map((port) => connectTo({ port, host: '127.0.0.1', noDelay: true }))
  await Promise.all(sockets.map((socket) => new Promise<void>((resolve) => socket.once('connect', resolve))))
}

function send({ perSecond, sliceMs }: { perSecond: number; sliceMs: number }): Promise<number> {
  return atRate(perSecond, sliceMs, () => {
    const message = Buffer.alloc(MESSAGE_BYTES)
    return new Promise<void>((resolve) => {
      opened().append(message, () => {
        message.writeDoubleLE(machineMs(), 0)
        for (const socket of sockets) socket.write(message)
        resolve()
      })
    })
  })
}

/** What was measured since the last call. */
function takeLagsMs(): readonly number[] {
  const taken = lags
  lags = []
  return taken
}

serveParent({ listen, connect, send, takeLagsMs }, () => {
  for (const socket of sockets) socket.destroy()
  server?.close()
  file?.close()
})
