/**
 * The way from one node to another, which a test can cut, hold up or slow down: a TCP proxy in the test's own process.
 *
 * A link has two wires, `grpc` and `http` (the stream); what is done to the link is done to both. Directions are seen from the node that
 * dials: `out` is what it sends. What TCP delivers it delivers once and in order, so a link cannot lose or repeat single messages: a lost
 * connection with everything in flight on it is what a network does to an application, and the retry after it is the duplicate.
 *
 * Promises: a wire holds back at most `HELD_BYTES_MAX` in each direction of a connection, then it takes nothing more from the sender.
 */
import { once } from 'node:events'
import net from 'node:net'

export type Direction = 'out' | 'in' | 'both'

interface Half {
  readonly from: net.Socket
  readonly to: net.Socket
  readonly direction: 'out' | 'in'
  held: { readonly bytes: Buffer; readonly dueMs: number }[]
  heldBytes: number
  timer: NodeJS.Timeout | undefined
  /** Throttled: when the next byte may go. */
  freeMs: number
}

const HELD_BYTES_MAX = 1 << 20
/** A throttled wire hands on pieces of about this duration. */
const THROTTLE_PIECE_MS = 20

export class Wire {
  readonly #server: net.Server
  readonly #pairs = new Map<net.Socket, readonly [Half, Half]>()
  readonly #target: { readonly host: string; readonly port: number }
  #isDropping = false
  #hanging: readonly Direction[] = []
  #delayMs = 0
  #bytesPerSecond = Number.POSITIVE_INFINITY
  #forwarded = 0
  /** Bytes towards the node that dials until one of them is flipped. */
  #garbleIn = Number.POSITIVE_INFINITY
  /** Ever accepted. */
  connections = 0

  private constructor(target: { readonly host: string; readonly port: number }) {
    this.#target = target
    this.#server = net.createServer({ allowHalfOpen: true }, (near) => this.#accept(near))
  }

  static async open(target: { readonly host: string; readonly port: number }): Promise<Wire> {
    const wire = new Wire(target)
    wire.#server.listen(0, '127.0.0.1')
    await once(wire.#server, 'listening')
    return wire
  }

  /** `host:port` to dial instead of the target. */
  get address(): string {
    return `127.0.0.1:${(this.#server.address() as net.AddressInfo).port}`
  }

  /** Bytes handed on in either direction. */
  get forwardedBytes(): number {
    return this.#forwarded
  }

  /** Ends every connection with a reset, and new ones as they come. */
  drop(): void {
    this.#isDropping = true
    this.cut()
  }

  /** Ends every connection with a reset. New ones are possible. */
  cut(): void {
    for (const near of this.#pairs.keys()) this.#end(near)
  }

  /** Connections stay open and are accepted, but nothing arrives in this direction, and nobody is told. */
  hang(direction: Direction): void {
    this.#hanging = [...this.#hanging, direction]
  }

  /** Everything arrives so much later. */
  delay(ms: number): void {
    this.#delayMs = ms
  }

  /** In each direction of each connection. */
  throttle(bytesPerSecond: number): void {
    this.#bytesPerSecond = bytesPerSecond
  }

  /** One byte of what the far side sends arrives as another, after so many more. TCP's own checksum is meant to find that, and does not always. */
  garble(afterBytes: number): void {
    this.#garbleIn = afterBytes
  }

  /** A byte that was to be garbled was. */
  get isGarbled(): boolean {
    return this.#garbleIn < 0
  }

  /** As new. What was held back arrives. */
  heal(): void {
    this.#garbleIn = Number.POSITIVE_INFINITY
    this.#isDropping = false
    this.#hanging = []
    this.#delayMs = 0
    this.#bytesPerSecond = Number.POSITIVE_INFINITY
    for (const pair of this.#pairs.values()) for (const half of pair) this.#pump(half)
  }

  async close(): Promise<void> {
    this.drop()
    const closed = once(this.#server, 'close')
    this.#server.close()
    await closed
  }

  #accept(near: net.Socket): void {
    this.connections++
    if (this.#isDropping) {
      near.on('error', () => undefined)
      near.resetAndDestroy()
      return
    }
    const far = net.connect({ ...this.#target, allowHalfOpen: true })
    const half = (from: net.Socket, to: net.Socket, direction: 'out' | 'in'): Half => ({
      from,
      to,
      direction,
      held: [],
      heldBytes: 0,
      timer: undefined,
      freeMs: 0,
    })
    const pair = [half(near, far, 'out'), half(far, near, 'in')] as const
    this.#pairs.set(near, pair)
    for (const socket of [near, far]) {
      socket.setNoDelay(true)
      socket.on('error', () => this.#end(near))
      socket.on('close', () => this.#end(near))
    }
    for (const one of pair) {
      one.from.on('data', (bytes: Buffer) => {
        one.held.push({ bytes, dueMs: performance.now() + this.#delayMs })
        one.heldBytes += bytes.length
        if (one.heldBytes >= HELD_BYTES_MAX) one.from.pause()
        this.#pump(one)
      })
      // An end is news as well: it waits behind what is held back.
      one.from.on('end', () => {
        one.held.push({ bytes: Buffer.alloc(0), dueMs: performance.now() + this.#delayMs })
        this.#pump(one)
      })
      one.to.on('drain', () => this.#pump(one))
    }
  }

  /** Hands on what is due. */
  #pump(half: Half): void {
    clearTimeout(half.timer)
    half.timer = undefined
    while (half.held.length > 0 && !this.#isHanging(half.direction) && !half.to.writableNeedDrain) {
      const [next] = half.held
      if (next === undefined) return
      const waitMs = Math.max(next.dueMs, half.freeMs) - performance.now()
      if (waitMs > 0) {
        half.timer = setTimeout(() => this.#pump(half), waitMs)
        return
      }
      half.held.shift()
      if (next.bytes.length === 0) {
        half.to.end()
        continue
      }
      const piece = this.#piece(next.bytes, half)
      if (piece.length < next.bytes.length) half.held.unshift({ ...next, bytes: next.bytes.subarray(piece.length) })
      half.heldBytes -= piece.length
      this.#forwarded += piece.length
      half.to.write(half.direction === 'in' ? this.#garbled(piece) : piece)
      if (half.heldBytes < HELD_BYTES_MAX) half.from.resume()
    }
  }

  #piece(bytes: Buffer, half: Half): Buffer {
    if (this.#bytesPerSecond === Number.POSITIVE_INFINITY) return bytes
    const most = Math.max(1, Math.floor((this.#bytesPerSecond * THROTTLE_PIECE_MS) / 1000))
    const piece = bytes.subarray(0, most)
    half.freeMs = performance.now() + (piece.length / this.#bytesPerSecond) * 1000
    return piece
  }

  #garbled(bytes: Buffer): Buffer {
    const at = this.#garbleIn
    this.#garbleIn -= bytes.length
    if (at < 0 || at >= bytes.length) return bytes
    this.#garbleIn = -1
    const garbled = Buffer.from(bytes)
    garbled[at] = (garbled[at] ?? 0) ^ 0x10
    return garbled
  }

  #isHanging(direction: 'out' | 'in'): boolean {
    return this.#hanging.some((hanging) => hanging === 'both' || hanging === direction)
  }

  #end(near: net.Socket): void {
    const pair = this.#pairs.get(near)
    if (pair === undefined) return
    this.#pairs.delete(near)
    for (const { from, timer } of pair) {
      clearTimeout(timer)
      from.resetAndDestroy()
    }
  }
}

export interface NodePorts {
  readonly host: string
  readonly http: number
  readonly grpc: number
}

/** Both wires of one directed pair of nodes. */
export class Link {
  readonly grpc: Wire
  readonly http: Wire
  /** Real address → the wire's, for the node that dials. */
  readonly routes: Readonly<Record<string, string>>

  private constructor(grpc: Wire, http: Wire, to: NodePorts) {
    this.grpc = grpc
    this.http = http
    this.routes = { [`${to.host}:${to.grpc}`]: grpc.address, [`${to.host}:${to.http}`]: http.address }
  }

  static async open(to: NodePorts): Promise<Link> {
    const grpc = await Wire.open({ host: to.host, port: to.grpc })
    const http = await Wire.open({ host: to.host, port: to.http })
    return new Link(grpc, http, to)
  }

  drop(): void {
    this.#each((wire) => wire.drop())
  }

  cut(): void {
    this.#each((wire) => wire.cut())
  }

  hang(direction: Direction): void {
    this.#each((wire) => wire.hang(direction))
  }

  delay(ms: number): void {
    this.#each((wire) => wire.delay(ms))
  }

  throttle(bytesPerSecond: number): void {
    this.#each((wire) => wire.throttle(bytesPerSecond))
  }

  heal(): void {
    this.#each((wire) => wire.heal())
  }

  async close(): Promise<void> {
    await Promise.all([this.grpc.close(), this.http.close()])
  }

  #each(action: (wire: Wire) => void): void {
    for (const wire of [this.grpc, this.http]) action(wire)
  }
}
