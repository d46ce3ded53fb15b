/**
 * Virtual links between machines, and the connections over them.
 *
 * A link has a direction. What is sent over a blocked one is kept, as TCP keeps what is not acknowledged, and travels
 * once the link is open again; neither side hears of it. A connection may be stalled by itself (a NAT that forgot it):
 * its bytes arrive late, when another connection has long taken its place.
 * Promises: what is sent on a connection arrives once and in order, or the connection ends; the end too is in order,
 * except that of a process that died. A dead process closes its connections (`reset`) when its machine lives; when the
 * machine died, the other side hears nothing until it speaks to the machine again.
 * A receiver that is slow takes each message later; a sender's `done` waits while more than `WINDOW_BYTES` are under way.
 */
import type { Chance } from './chance.ts'
import type { TimerOwner, WorldTime } from './world-time.ts'

/** A process as the network sees it. */
export interface Host extends TimerOwner {
  readonly name: string
  /** Ms that each message to it takes longer, because it is slow to read. */
  readonly slowMs: number
  /** The machine has power, whether or not this process still runs. */
  readonly isMachineUp: boolean
  /** Somebody dialled it; false: nobody listens at this door. */
  accept(door: string, connection: Endpoint): boolean
}

export interface LinkState {
  isBlocked: boolean
  delayMs: number
  jitterMs: number
}

type Item =
  | { readonly kind: 'data'; readonly payload: unknown; readonly bytes: number }
  | { readonly kind: 'open'; readonly door: string }
  | { readonly kind: 'opened' }
  | { readonly kind: 'end' }

const WINDOW_BYTES = 64 * 1024

export class Network {
  readonly #time: WorldTime
  readonly #chance: Chance
  readonly #links = new Map<string, LinkState>()
  readonly #hosts = new Map<string, Host>()
  readonly #connections = new Set<Connection>()

  constructor(time: WorldTime, chance: Chance) {
    this.#time = time
    this.#chance = chance
  }

  /** The process that runs on the machine of this name now. */
  started(host: Host): void {
    this.#hosts.set(host.name, host)
    // What was sent to the process before it is sent again by TCP, and refused.
    for (const connection of this.#connections) connection.machineIsBack(host.name)
  }

  host(name: string): Host | undefined {
    return this.#hosts.get(name)
  }

  link(from: string, to: string): LinkState {
    const key = `${from}>${to}`
    const known = this.#links.get(key)
    if (known !== undefined) return known
    const link = { isBlocked: false, delayMs: 1, jitterMs: 1 }
    this.#links.set(key, link)
    return link
  }

  block(from: string, to: string): void {
    this.link(from, to).isBlocked = true
  }

  unblock(from: string, to: string): void {
    this.link(from, to).isBlocked = false
    for (const connection of this.#connections) connection.flush()
  }

  get connections(): readonly Connection[] {
    return [...this.#connections]
  }

  /** Dials a door of a machine. What is sent before it opened waits. */
  dial(from: Host, to: string, door: string): Endpoint {
    const connection = new Connection(this, this.#time, this.#chance, from, to, door)
    this.#connections.add(connection)
    connection.dial()
    return connection.near
  }

  /** A process ended. Its machine tells the others, unless it lost power. */
  died(host: Host, isSilent: boolean): void {
    for (const connection of this.#connections) connection.died(host, isSilent)
  }

  /** @internal */
  forget(connection: Connection): void {
    this.#connections.delete(connection)
  }
}

/** One side of a connection. */
export class Endpoint {
  readonly #connection: Connection
  readonly host: Host
  onOpen: () => void = () => undefined
  onData: (payload: unknown) => void = () => undefined
  /** The other side ended it, or it broke. At most once, and not after `close()`. */
  onEnd: () => void = () => undefined
  isEnded = false

  constructor(connection: Connection, host: Host) {
    this.#connection = connection
    this.host = host
  }

  send(payload: unknown, bytes: number, done?: () => void): void {
    if (this.isEnded) return
    this.#connection.send(this, { kind: 'data', payload, bytes }, done)
  }

  /** Ends the connection after what was sent. */
  close(): void {
    if (this.isEnded) return
    this.isEnded = true
    this.#connection.send(this, { kind: 'end' })
  }
}

class Pipe {
  readonly items: Item[] = []
  bytes = 0
  lastArrivalMs = 0
  /** How many of the items are on their way; the others wait for the link. */
  scheduled = 0
  readonly waiting: (() => void)[] = []
}

export class Connection {
  readonly near: Endpoint
  far: Endpoint | undefined
  readonly from: string
  readonly to: string
  readonly door: string
  /** Nothing of it arrives for now. */
  isStalled = false
  readonly #network: Network
  readonly #time: WorldTime
  readonly #chance: Chance
  readonly #out = new Pipe()
  readonly #back = new Pipe()
  /** A machine without power holds one end. */
  #isOrphan = false
  /** Something was sent to it. */
  #isUnanswered = false

  constructor(network: Network, time: WorldTime, chance: Chance, host: Host, to: string, door: string) {
    this.#network = network
    this.#time = time
    this.#chance = chance
    this.near = new Endpoint(this, host)
    this.from = host.name
    this.to = to
    this.door = door
  }

  dial(): void {
    this.#enqueue(this.#out, { kind: 'open', door: this.door })
  }

  send(endpoint: Endpoint, item: Item, done?: () => void): void {
    const pipe = endpoint === this.near ? this.#out : this.#back
    if (this.#isOrphan) {
      this.#isUnanswered = true
      if (this.#network.host(this.#peerName(endpoint))?.isMachineUp === true) this.#resetSoon(endpoint)
    }
    this.#enqueue(pipe, item)
    if (item.kind === 'data') pipe.bytes += item.bytes
    if (done === undefined) return
    if (pipe.bytes <= WINDOW_BYTES) this.#time.setTimer(0, endpoint.host, done)
    else pipe.waiting.push(() => void this.#time.setTimer(0, endpoint.host, done))
  }

  /** A link is open again, or the connection goes on: what waited travels. */
  flush(): void {
    for (const pipe of [this.#out, this.#back]) {
      const missing = pipe.items.length - pipe.scheduled
      for (let i = 0; i < missing; i++) this.#schedule(pipe)
    }
  }

  stall(): void {
    this.isStalled = true
  }

  release(): void {
    this.isStalled = false
    this.flush()
  }

  /** Breaks it now, on both sides, as a reset that was forged or a middle box that restarted. */
  breakOff(): void {
    for (const endpoint of [this.near, this.far]) if (endpoint !== undefined) this.#resetSoon(endpoint)
  }

  died(host: Host, isSilent: boolean): void {
    const dead = this.near.host === host ? this.near : this.far?.host === host ? this.far : undefined
    if (dead === undefined) return
    const other = dead === this.near ? this.far : this.near
    dead.isEnded = true
    if (other === undefined || other.isEnded) return this.#network.forget(this)
    if (isSilent) {
      this.#isOrphan = true
      this.#isUnanswered = (dead === this.near ? this.#back : this.#out).items.length > 0
    } else this.#enqueue(dead === this.near ? this.#out : this.#back, { kind: 'end' })
  }

  machineIsBack(name: string): void {
    if (!this.#isOrphan || !this.#isUnanswered) return
    for (const endpoint of [this.near, this.far]) {
      if (endpoint !== undefined && !endpoint.isEnded && this.#peerName(endpoint) === name) this.#resetSoon(endpoint)
    }
  }

  #peerName(endpoint: Endpoint): string {
    return endpoint === this.near ? this.to : this.from
  }

  #resetSoon(endpoint: Endpoint): void {
    this.#time.setTimer(1, endpoint.host, () => this.#end(endpoint))
  }

  #end(endpoint: Endpoint): void {
    if (endpoint.isEnded) return
    endpoint.isEnded = true
    const other = endpoint === this.near ? this.far : this.near
    if (other === undefined || other.isEnded) this.#network.forget(this)
    endpoint.onEnd()
  }

  #enqueue(pipe: Pipe, item: Item): void {
    pipe.items.push(item)
    this.#schedule(pipe)
  }

  #schedule(pipe: Pipe): void {
    const [from, to] = pipe === this.#out ? [this.from, this.to] : [this.to, this.from]
    const link = this.#network.link(from, to)
    if (link.isBlocked || this.isStalled) return
    const host = pipe === this.#out ? (this.far?.host ?? this.#network.host(to)) : this.near.host
    const delayMs = link.delayMs + this.#chance.next() * link.jitterMs + (host?.slowMs ?? 0)
    pipe.lastArrivalMs = Math.max(pipe.lastArrivalMs, this.#time.nowMs + delayMs)
    pipe.scheduled++
    this.#time.setTimer(pipe.lastArrivalMs - this.#time.nowMs, undefined, () => this.#arrive(pipe, link))
  }

  #arrive(pipe: Pipe, link: LinkState): void {
    pipe.scheduled--
    if (link.isBlocked || this.isStalled) return
    const item = pipe.items.shift()
    if (item === undefined) return
    if (item.kind === 'data') {
      pipe.bytes -= item.bytes
      while (pipe.bytes <= WINDOW_BYTES && pipe.waiting.length > 0) pipe.waiting.shift()?.()
    }
    if (item.kind === 'open') return this.#opened(item.door)
    const endpoint = pipe === this.#out ? this.far : this.near
    if (endpoint === undefined || endpoint.isEnded) return
    // As a timer of its own, so that a paused process gets it later and a dead one never.
    this.#time.setTimer(0, endpoint.host, () => this.#deliver(endpoint, item))
  }

  #deliver(endpoint: Endpoint, item: Item): void {
    if (endpoint.isEnded) return
    if (item.kind === 'end') return this.#end(endpoint)
    if (item.kind === 'opened') return endpoint.onOpen()
    if (item.kind === 'data') endpoint.onData(item.payload)
  }

  #opened(door: string): void {
    const host = this.#network.host(this.to)
    if (host === undefined || !host.isMachineUp) return
    const far = new Endpoint(this, host)
    if (host.isDead || !host.accept(door, far)) return this.#enqueue(this.#back, { kind: 'end' })
    this.far = far
    this.#enqueue(this.#back, { kind: 'opened' })
  }
}
