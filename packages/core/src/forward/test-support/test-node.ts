/**
 * Half a node for tests: listener, channels, forwarder and function table, with a role that the test sets and writes
 * that it answers.
 */
import { type Clock, systemClock } from '../../base/clock.ts'
import { ClusterError } from '../../errors/cluster-error.ts'
import { NO_EPOCH } from '../../position/epoch.ts'
import { ZERO_POSITION } from '../../position/position.ts'
import type { TrackedPosition } from '../../position/position-tracker.ts'
import { ReplicaPositions } from '../../position/replica-positions.ts'
import { type DatabaseName, databaseName } from '../../request/database-name.ts'
import { RequestIdSource } from '../../request/request-id.ts'
import type { WriteOperation } from '../../request/write-request.ts'
import type { PrimaryInfo } from '../../leadership/node-role.ts'
import type { RoleName } from '../../peer/hello.ts'
import { Members } from '../../peer/members.ts'
import type { NodeStatus } from '../../peer/node-status.ts'
import { type PeerOptions, resolvePeerOptions } from '../../peer/peer-options.ts'
import { PeerPool } from '../../peer/peer-pool.ts'
import { PeerServer } from '../../peer/peer-server.ts'
import { loadPeerProtocol, PROTOCOL_VERSION } from '../../peer/protocol.ts'
import type { Member } from '../../peer/wire-messages.ts'
import { ForwardHandler } from '../forward-handler.ts'
import { Forwarder } from '../forwarder.ts'
import { FunctionRunner } from '../function-runner.ts'
import { FunctionTable } from '../function-table.ts'
import { UnaryDoor } from '../unary-door.ts'
import type { ExecuteHere, ResolveHere, WriteAnswer, WriteCall } from '../write-call.ts'

export interface TestNodeOptions {
  readonly name: string
  readonly region?: string
  readonly clusterId?: string
  readonly keys?: readonly string[]
  readonly peer?: PeerOptions
  readonly clock?: Clock
  readonly execute?: ExecuteHere
  /** Default: nothing is known, and nothing remembered. */
  readonly resolve?: ResolveHere
  readonly awaitLocal?: (database: DatabaseName, at: TrackedPosition, deadlineMs: number) => Promise<void>
}

export const TEST_CLUSTER = 'LFSC0123456789ABCDEF'

/** A role the test sets by hand, in the shape that `forward/` asks for. */
export class TestLeadership {
  readonly #name: string
  readonly #listeners = new Set<() => void>()
  #role: 'primary' | PrimaryInfo | undefined
  refreshes = 0

  constructor(name: string) {
    this.#name = name
  }

  set(role: 'primary' | PrimaryInfo | undefined): void {
    this.#role = role
    for (const listener of this.#listeners) listener()
  }

  get isPrimary(): boolean {
    return this.#role === 'primary'
  }

  primary(): PrimaryInfo | undefined {
    return this.#role === 'primary' ? { ...primaryAt('', this.#name), isSelf: true } : this.#role
  }

  waitForPrimary(deadlineMs: number): Promise<PrimaryInfo> {
    const found = this.primary()
    if (found !== undefined) return Promise.resolve(found)
    return new Promise((resolve, reject) => {
      const stop = this.onChange(() => {
        const primary = this.primary()
        if (primary === undefined) return
        timer.cancel()
        stop()
        resolve(primary)
      })
      const timer = systemClock.setTimer(Math.max(0, deadlineMs - systemClock.monotonicMs()), () => {
        stop()
        reject(new ClusterError('NO_PRIMARY', 'no primary was known before the deadline'))
      })
    })
  }

  notPrimary(): ClusterError {
    return new ClusterError('NOT_PRIMARY', `node "${this.#name}" is not the primary`, {
      details: { node: this.#name, reason: 'moved', primary: this.#role === 'primary' ? undefined : this.#role },
    })
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  refresh(): void {
    this.refreshes++
  }
}

export class TestNode {
  readonly name: string
  readonly leadership: TestLeadership
  readonly positions: ReplicaPositions
  readonly members: Members
  readonly functions = new FunctionTable()
  readonly peers: PeerPool
  readonly server: PeerServer
  readonly forwarder: Forwarder
  readonly joined: string[] = []
  execute: ExecuteHere
  resolve: ResolveHere
  clusterId: string
  address = ''
  readonly #runner: FunctionRunner

  constructor(o: TestNodeOptions) {
    const { name, region = 'local', keys = [], clock = systemClock } = o
    this.name = name
    this.clusterId = o.clusterId ?? TEST_CLUSTER
    this.execute = o.execute ?? ((call) => Promise.resolve(echo(call)))
    this.resolve =
      o.resolve ?? (() => Promise.resolve({ outcome: 'not-applied', position: ZERO_POSITION, epoch: NO_EPOCH }))
    this.leadership = new TestLeadership(name)
    this.positions = new ReplicaPositions({ clock })
    const options = resolvePeerOptions(o.peer)
    const protocol = loadPeerProtocol()
    const role = (): RoleName => (this.leadership.isPrimary ? 'primary' : 'replica')
    const card = () => ({
      nodeId: nodeIdOf(name),
      nodeName: name,
      region,
      grpcAddress: this.address,
      httpUrl: '',
      isCandidate: false,
      role: role(),
    })
    const hello = () => ({ ...card(), clusterId: this.clusterId, databases: [] })
    this.members = new Members(() => ({ ...card(), positions: [] }))
    this.peers = new PeerPool({
      clock,
      protocol,
      options,
      keys,
      hello,
      route: (address) => address,
      random: () => 0.5,
      adoptClusterId: (id) => {
        this.clusterId = id
      },
    })
    this.#runner = new FunctionRunner(this.functions, clock)
    const executeHere: ExecuteHere = (call, context) => this.execute(call, context)
    const resolveHere: ResolveHere = (call, context) => this.resolve(call, context)
    const handler = new ForwardHandler({
      clock,
      leadership: this.leadership,
      functions: this.#runner,
      messageBytesMax: options.messageBytesMax,
      executeHere,
      resolveHere,
    })
    this.forwarder = new Forwarder({
      clock,
      leadership: this.leadership,
      peers: this.peers,
      members: this.members,
      functions: this.#runner,
      requestIds: new RequestIdSource(() => clock.nowMs(), new Uint8Array(6).fill(name.charCodeAt(0))),
      executeHere,
      resolveHere,
      awaitLocal: o.awaitLocal ?? (() => Promise.resolve()),
    })
    const door = new UnaryDoor({ clock, forwarder: this.forwarder, nodeName: name })
    this.server = new PeerServer({
      clock,
      protocol,
      options,
      keys,
      hello,
      handlers: {
        request: (request) => handler.handle(request),
        write: (request, deadlineMs) => door.write(request, deadlineMs),
        call: (request, deadlineMs) => door.call(request, deadlineMs),
        resolve: (request, deadlineMs) => door.resolve(request, deadlineMs),
        stand: () => Promise.reject(new Error('there are no elections here')),
        succeed: () => undefined,
        promote: () => Promise.reject(new Error('there are no elections here')),
        handOff: () => Promise.reject(new Error('there are no elections here')),
        demote: () => Promise.reject(new Error('there are no elections here')),
        status: () => this.status(),
        met: () => undefined,
        replicaJoined: ({ nodeId, nodeName, region: where }) => {
          this.joined.push(nodeName)
          this.positions.connected({ nodeId, name: nodeName, region: where })
        },
        replicaReported: ({ nodeId }, reports) => this.positions.report(nodeId, reports),
        replicaLeft: ({ nodeId }) => this.positions.disconnected(nodeId),
      },
    })
  }

  async listen(port = 0): Promise<this> {
    this.address = `127.0.0.1:${await this.server.listen('127.0.0.1', port)}`
    return this
  }

  /** This node follows the one at an address. */
  follow(other: { readonly name: string; readonly address: string }): this {
    this.leadership.set(primaryAt(other.address, other.name))
    return this
  }

  status(): NodeStatus {
    const member: Member = this.members.self
    return {
      protocolVersion: PROTOCOL_VERSION,
      clusterId: this.clusterId,
      nodeId: member.nodeId,
      nodeName: this.name,
      region: member.region,
      role: member.role,
      roleDetail: '',
      term: NO_EPOCH,
      primary: undefined,
      databases: [],
      members: this.members.all(),
      process: {
        pid: process.pid,
        uptimeMs: 1.5,
        rssBytes: 1,
        litefleetVersion: '0',
        nodeVersion: process.version,
        sqliteVersion: '3',
        platform: 'linux-x64',
      },
    }
  }

  async close(): Promise<void> {
    this.forwarder.close()
    this.#runner.close()
    await this.peers.close()
    await this.server.close(100)
    this.positions.close()
  }
}

export function primaryAt(address: string, name: string): PrimaryInfo {
  return {
    hostname: name,
    name,
    advertiseUrl: 'http://127.0.0.1:1',
    grpcAddress: address,
    nodeId: nodeIdOf(name),
    region: 'local',
    protocol: PROTOCOL_VERSION,
    isSelf: false,
  }
}

export function nodeIdOf(name: string): string {
  return Buffer.from(name).toString('hex').padEnd(16, '0').slice(0, 16)
}

export const TEST_DATABASE = databaseName('app.db')

export function writeCall(operation: WriteOperation, more: Partial<WriteCall> = {}): WriteCall {
  return {
    database: TEST_DATABASE,
    operation,
    requestId: undefined,
    idempotencyKey: undefined,
    await: 'none',
    timeoutMs: 5_000,
    ...more,
  }
}

export function procedureCall(input: unknown, more: Partial<WriteCall> = {}): WriteCall {
  return writeCall({ kind: 'procedure', name: 'echo', input: input as never }, more)
}

/** Answers a procedure with its input and a batch with one empty result for each statement. */
export function echo(call: WriteCall): WriteAnswer {
  return {
    result:
      call.operation.kind === 'procedure'
        ? { kind: 'procedure', value: call.operation.input }
        : { kind: 'batch', results: call.operation.statements.map(() => ({ changes: 1, lastInsertRowid: 1 })) },
    database: call.database,
    position: ZERO_POSITION,
    epoch: NO_EPOCH,
    level: 'none',
    uncounted: [],
    requestId: call.requestId,
    replayed: false,
  }
}
