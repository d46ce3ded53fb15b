/**
 * One process of a simulated fleet, wired as `cluster.ts` wires a real one: the same leadership, forwarding, channels,
 * streams and waiting, on a virtual clock, network and disk; only the engine's file layer is modelled (`sim-database.ts`).
 */
import type { Clock } from '../../packages/core/src/base/clock.ts'
import { RunLoop } from '../../packages/core/src/base/run-loop.ts'
import type { DivergenceReport } from '../../packages/core/src/divergence/divergence-report.ts'
import type { Disk } from '../../packages/core/src/files/disk.ts'
import { ForwardHandler } from '../../packages/core/src/forward/forward-handler.ts'
import { Forwarder } from '../../packages/core/src/forward/forwarder.ts'
import { FunctionRunner } from '../../packages/core/src/forward/function-runner.ts'
import { FunctionTable } from '../../packages/core/src/forward/function-table.ts'
import type {
  ResolveAnswer,
  ResolveCall,
  WriteAnswer,
  WriteCall,
  WriteContext,
} from '../../packages/core/src/forward/write-call.ts'
import { Leadership } from '../../packages/core/src/leadership/leadership.ts'
import { resolveLeadershipOptions } from '../../packages/core/src/leadership/leadership-options.ts'
import type { NodeRole, Term } from '../../packages/core/src/leadership/node-role.ts'
import type { Lease } from '../../packages/core/src/lease/lease.ts'
import type { LeaseHolder } from '../../packages/core/src/lease/lease-holder.ts'
import { createStaticLease, type StaticPrimary } from '../../packages/core/src/lease/static-lease.ts'
import type { ResolvedLogOptions } from '../../packages/core/src/log/log-options.ts'
import { awaitReplicas, requireAwaitable } from '../../packages/core/src/node/await-replicas.ts'
import { ClusterIdentity } from '../../packages/core/src/node/cluster-identity.ts'
import { Election } from '../../packages/core/src/node/election.ts'
import { Following } from '../../packages/core/src/node/following.ts'
import { KnownMembers } from '../../packages/core/src/node/known-members.ts'
import { Membership } from '../../packages/core/src/node/membership.ts'
import type { Pull } from '../../packages/core/src/node/promotion-plan.ts'
import { pull } from '../../packages/core/src/node/pull.ts'
import type { ResolvedPeerOptions } from '../../packages/core/src/peer/peer-options.ts'
import { PeerPool } from '../../packages/core/src/peer/peer-pool.ts'
import { PeerServer } from '../../packages/core/src/peer/peer-server.ts'
import { type PeerProtocol, PROTOCOL_VERSION } from '../../packages/core/src/peer/protocol.ts'
import { type Epoch, NO_EPOCH } from '../../packages/core/src/position/epoch.ts'
import { ReplicaPositions } from '../../packages/core/src/position/replica-positions.ts'
import { Voters } from '../../packages/core/src/position/voters.ts'
import { admitOperation } from '../../packages/core/src/request/admit-operation.ts'
import { RequestIdSource } from '../../packages/core/src/request/request-id.ts'
import { StreamServer } from '../../packages/core/src/stream/stream-server.ts'
import type { ResolvedStreamServerOptions } from '../../packages/core/src/stream/stream-server-options.ts'
import type { ResolvedStreamSinkOptions } from '../../packages/core/src/stream/stream-sink-options.ts'
import type { ResolvedLedgerOptions } from '../../packages/core/src/write/ledger-options.ts'
import type { ResolvedWriteQueueOptions } from '../../packages/core/src/write/queue-options.ts'
import { ArbiterLease } from './arbiter.ts'
import type { Chance } from './chance.ts'
import { MachineClock } from './machine-clock.ts'
import type { Endpoint, Network } from './network.ts'
import { DATABASE, simDirectory } from './sim-directory.ts'
import { SimDatabase } from './sim-database.ts'
import type { Sabotage } from './sabotage.ts'
import type { SimProcess } from './sim-process.ts'
import type { SqliteImage } from './sqlite-image.ts'
import { serverCall, virtualDial } from './virtual-channel.ts'
import { serveHttp, virtualConnect } from './virtual-http.ts'
import { probe } from './virtual-info.ts'
import { answerStanding, askStanding, STANDING_DOOR } from './virtual-standing.ts'
import type { WorldTime } from './world-time.ts'

export interface NodeOptions {
  readonly peer: ResolvedPeerOptions
  readonly log: ResolvedLogOptions
  readonly ledger: ResolvedLedgerOptions
  readonly queue: ResolvedWriteQueueOptions
  readonly streamServer: ResolvedStreamServerOptions
  readonly streamSink: ResolvedStreamSinkOptions
  readonly streamWindowBytes: number
  readonly pruneEveryMs: number
  readonly schema: string
  /** A guard that is left out on purpose. */
  readonly sabotage?: Sabotage | undefined
}

export interface SimNodeParts {
  readonly process: SimProcess
  readonly time: WorldTime
  readonly network: Network
  readonly chance: Chance
  readonly protocol: PeerProtocol
  readonly options: NodeOptions
  readonly lease: 'elected' | StaticPrimary
  /** Names of all machines. */
  readonly machines: readonly string[]
  /** Of an election; empty: none. */
  readonly voters: readonly string[]
  /** See settings.ts. */
  readonly overstayMs: number
  /** The database is there: whoever watches it may look. */
  onOpened(node: SimNode): void
  onRole(node: SimNode, role: NodeRole): void
  /** This node begins to act as primary. */
  onOffice(node: SimNode): void
  /** The write is about to be answered at the primary, at its level. */
  onAnswer(node: SimNode, call: WriteCall, answer: WriteAnswer): void
  /** A replica is about to report what it has durably. */
  onReport(node: SimNode): void
  /** Something failed that will be tried again. */
  onTrouble(node: SimNode, error: unknown): void
  onStopped(node: SimNode, error: unknown): void
  onReplace(node: SimNode, before: SqliteImage, after: SqliteImage, report: DivergenceReport | 'copy' | undefined): void
  onHistoryRestarted(node: SimNode): void
  commitFault(node: SimNode): 'commit' | 'fail' | 'full'
}

const LEADERSHIP = resolveLeadershipOptions({ marginMs: 100, retryMinMs: 50, retryMaxMs: 500 })

export class SimNode {
  readonly process: SimProcess
  readonly clock: Clock
  readonly nodeId: string
  readonly requestIds: RequestIdSource
  readonly database: SimDatabase
  readonly leadership: Leadership
  readonly positions: ReplicaPositions
  readonly #parts: SimNodeParts
  readonly #identity: ClusterIdentity
  readonly #membership: Membership
  readonly #runner: FunctionRunner
  readonly #lease: Lease
  readonly #peers: PeerPool
  readonly #peerServer: PeerServer
  readonly #streamServer: StreamServer
  readonly #forwarder: Forwarder
  readonly #following: Following
  readonly #knownMembers: KnownMembers
  readonly #election: Election
  readonly #voters: Voters
  readonly #progressListeners = new Set<() => void>()
  readonly #pruning: RunLoop

  constructor(parts: SimNodeParts) {
    const { process, time, network, chance, protocol, options } = parts
    const clock = new MachineClock(time, process, process.machine.clock)
    const disk = process.machine.disk.forProcess(process)
    const random = chance.for('jitter').next
    const nodeId = chance.for('node-id').bytes(8)
    nodeId[0] = (nodeId[0] as number) | 1
    this.#parts = parts
    this.process = process
    this.clock = clock
    this.nodeId = nodeId.toString('hex')
    this.#identity = new ClusterIdentity({
      disk,
      clock,
      directory: simDirectory(),
      group: 'main',
      random,
      warn: () => undefined,
    })
    this.requestIds = new RequestIdSource(() => clock.nowMs(), chance.for('request-ids').bytes(6))
    this.#runner = new FunctionRunner(new FunctionTable(), clock)
    this.positions = new ReplicaPositions({ clock })
    this.#membership = new Membership({ clock, positions: this.positions, self: () => this.#self() })
    this.database = this.#openDatabase(disk)
    this.#lease = this.#newLease()
    this.leadership = new Leadership({
      lease: this.#lease,
      clock,
      options: LEADERSHIP,
      random,
      self: () => this.#holder(),
      newestEpoch: () => this.#identity.newestEpoch,
      takeOffice: (term, signal) => this.#takeOffice(term, signal),
      leaveOffice: () => this.#leaveOffice(),
      onFailure: () => undefined,
    })
    this.#voters = new Voters(parts.voters, process.name)
    this.#knownMembers = new KnownMembers({
      disk,
      file: '/data/main/members',
      voters: parts.voters,
      members: this.#membership.members,
      onFailure: () => undefined,
    })
    this.#election = new Election({
      lease: this.#lease,
      clock,
      identity: this.#identity,
      voters: parts.voters,
      card: () => this.#card(),
      members: () => this.#knownMembers.all,
      addresses: () => parts.machines.filter((name) => name !== process.name).map((name) => `${name}:1`),
      databases: () => [this.database],
      ask: (address, candidacy, timeoutMs) => askStanding(network, process, clock, address, candidacy, timeoutMs),
      pull: (_database, wanted, candidate, signal) => this.#pull(wanted, candidate, signal),
      takeOffice: async (epoch) => {
        this.database.requireWhole()
        await this.database.openAsPrimary(epoch)
        this.#parts.onOffice(this)
      },
      supersede: (by) => this.leadership.supersede(by),
      endOlderStreams: async () => {
        if (options.sabotage !== 'forgets-promises') await this.#following.renew()
      },
      settled: () => this.database.settled(),
      warn: () => undefined,
    })
    const hello = () => ({
      ...this.#card(),
      clusterId: this.#identity.clusterId ?? '',
      databases: [{ database: DATABASE, epochs: this.database.epochTable() }],
    })
    const adoptClusterId = (id: string): void => this.#identity.adopt(id)
    const route = (address: string): string => address
    const keys: readonly [] = []
    this.#peers = new PeerPool({
      clock,
      protocol,
      options: options.peer,
      keys,
      route,
      dial: virtualDial(network, process, protocol),
      random,
      hello,
      adoptClusterId,
    })
    const executeHere = (call: WriteCall, context: WriteContext) => this.#executeHere(call, context)
    const resolveHere = async ({ requestId }: ResolveCall, { deadlineMs }: WriteContext) => {
      this.leadership.requirePrimary()
      return this.database.resolve({ requestId, deadlineMs })
    }
    this.#forwarder = new Forwarder({
      clock,
      leadership: this.leadership,
      peers: this.#peers,
      members: this.#membership.members,
      functions: this.#runner,
      requestIds: this.requestIds,
      executeHere,
      resolveHere,
      awaitLocal: (_database, { position, epoch }, deadlineMs) =>
        this.database.tracker.waitFor(position, deadlineMs, epoch),
    })
    const handler = new ForwardHandler({
      clock,
      leadership: this.leadership,
      functions: this.#runner,
      messageBytesMax: options.peer.messageBytesMax,
      executeHere,
      resolveHere,
    })
    const nobody = (): never => {
      throw new Error('no program calls here')
    }
    this.#peerServer = new PeerServer({
      clock,
      protocol,
      options: options.peer,
      keys,
      hello,
      handlers: {
        request: (request) => handler.handle(request),
        write: nobody,
        call: nobody,
        resolve: nobody,
        stand: nobody,
        succeed: nobody,
        promote: nobody,
        handOff: nobody,
        demote: nobody,
        status: nobody,
        met: () => undefined,
        replicaJoined: (peer) => this.#membership.joined(peer),
        replicaReported: (peer, reports) => this.#membership.reported(peer, reports),
        replicaLeft: (peer) => this.#membership.left(peer),
      },
    })
    this.#membership.attach(this.#peerServer, this.#peers, this.leadership)
    this.#streamServer = new StreamServer({
      node: {
        nodeId: this.nodeId.toUpperCase(),
        clusterId: () => this.#identity.clusterId,
        isPrimary: () => this.leadership.isPrimary,
        term: () => this.leadership.epoch,
        promised: () => this.#identity.promised,
        facts: () => this.#facts(),
        databases: () => [this.database],
        database: (name) => (name === DATABASE ? this.database : undefined),
        onDatabaseAdded: () => () => undefined,
      },
      keys,
      clock,
      options: options.streamServer,
      onFailure: () => undefined,
    })
    this.#following = new Following({
      ...this.#sinkParts(),
      promised: () => (options.sabotage === 'forgets-promises' ? NO_EPOCH : this.#identity.promised),
      databases: () => [this.database],
      onFailure: (error) => this.#parts.onTrouble(this, error),
    })
    this.#pruning = new RunLoop({
      clock,
      minDelayMs: options.pruneEveryMs,
      maxDelayMs: options.pruneEveryMs,
      random,
      task: () => Promise.resolve(this.database.prune(this.#streamServer.slowestTxid(DATABASE))),
    })
  }

  get name(): string {
    return this.process.name
  }

  /** Opens as `cluster.ts` does: a node that cannot hold the lease is a replica at once. */
  open(): void {
    const { network } = this.#parts
    this.#parts.onOpened(this)
    if (this.#parts.lease !== true) this.database.openAsReplica(this.#identity.lastOffice)
    this.process.accept = (door, connection) => this.#accept(door, connection)
    network.started(this.process)
    this.leadership.onChange((role, before) => this.#roleChanged(role, before))
    this.leadership.open()
    this.#report()
    this.#pruning.start()
  }

  write(call: WriteCall): Promise<WriteAnswer> {
    if (this.leadership.isPrimary) return this.#forwarder.write(call)
    return this.#forwarder.write({ ...call, operation: admitOperation(call.operation).operation })
  }

  /** What became of a write. */
  resolve(call: ResolveCall): Promise<ResolveAnswer> {
    return this.#forwarder.resolve(call)
  }

  /** Leaves in good order. */
  async close(): Promise<void> {
    await this.#pruning.stop()
    await this.leadership.close()
    this.database.tracker.close()
    await this.#lease.close()
    this.#membership.close()
    this.#knownMembers.close()
    this.#forwarder.close()
    await this.#peerServer.close()
    await this.#following.close()
    await this.#streamServer.close()
    await this.#peers.close()
    this.#runner.close()
    this.positions.close()
    await this.database.close()
  }

  #openDatabase(disk: Disk): SimDatabase {
    const { process, options } = this.#parts
    return new SimDatabase({
      name: DATABASE,
      process,
      clock: this.clock,
      disk,
      logOptions: options.log,
      requestIds: this.requestIds,
      ledger: options.ledger,
      queue: options.queue,
      nodeId: BigInt(`0x${this.nodeId}`),
      schema: options.schema,
      sabotage: options.sabotage,
      commitFault: () => this.#parts.commitFault(this),
      requirePrimary: () => this.leadership.requirePrimary(),
      onProgress: () => this.#report(),
      onEpochs: (table) => this.#identity.seen(table),
      onRestartStream: () => this.#following.restart(this.database),
      onStopped: (error) => this.#parts.onStopped(this, error),
      onReplace: (before, after, report) => this.#parts.onReplace(this, before, after, report),
      onHistoryRestarted: () => this.#parts.onHistoryRestarted(this),
    })
  }

  #newLease(): Lease {
    const { lease, network, process, chance } = this.#parts
    if (lease === 'elected') {
      const elected = new ArbiterLease(network, process, this.clock, this.#parts.overstayMs)
      process.loseLease = () => elected.forfeit()
      return elected
    }
    return createStaticLease({
      primary: lease,
      clock: this.clock,
      epochs: { next: (above) => Promise.resolve(this.#identity.nextEpoch(above)) },
      probe: (url, signal) => probe(network, process, this.clock, url, signal),
      random: chance.for('lease').next,
      recheckMs: 1_000,
    })
  }

  #accept(door: string, connection: Endpoint): boolean {
    const { protocol, options } = this.#parts
    if (door === STANDING_DOOR) answerStanding(connection, (candidacy) => this.#election.answer(candidacy))
    else if (door === 'grpc') this.#peerServer.accept(serverCall(connection, protocol))
    else serveHttp(connection, options.streamWindowBytes, (exchange) => this.#streamServer.accept(exchange))
    return true
  }

  async #takeOffice(term: Term, signal: AbortSignal): Promise<void> {
    try {
      this.#following.follow(undefined)
      await this.#following.settled()
      if (this.#parts.options.sabotage === 'takes-office-unasked') await this.#takeOfficeUnasked(term)
      else await this.#election.takeOffice(term, signal)
    } catch (error) {
      // A node that can be nothing but the primary ends when it cannot; so does one whose database failed half-way.
      if (this.#parts.lease === true || !this.database.isReadable) this.#parts.onStopped(this, error)
      throw error
    }
  }

  /** For `takes-office-unasked`. */
  async #takeOfficeUnasked(term: Term): Promise<void> {
    await this.database.openAsPrimary(term.epoch)
    this.#parts.onOffice(this)
    await term.lease.recordOffice()
  }

  async #pull(wanted: Pull, candidate: Epoch, signal: AbortSignal): Promise<void> {
    const onProgress = (listener: () => void): (() => void) => {
      this.#progressListeners.add(listener)
      return () => this.#progressListeners.delete(listener)
    }
    await pull(wanted, this.database, { stream: this.#sinkParts(), clock: this.clock, candidate, onProgress }, signal)
  }

  #sinkParts() {
    const { network, process, chance, options } = this.#parts
    return {
      nodeId: this.nodeId.toUpperCase(),
      nodeName: process.name,
      keys: [] as const,
      interop: false,
      clusterId: () => this.#identity.clusterId,
      adoptClusterId: (id: string) => this.#identity.adopt(id),
      clock: this.clock,
      route: (address: string) => address,
      connect: virtualConnect(network, process, options.streamWindowBytes),
      random: chance.for('stream jitter').next,
      options: options.streamSink,
    }
  }

  async #leaveOffice(): Promise<void> {
    this.positions.abandonWaits()
    if (this.process.isDead || this.database.primary === undefined) return
    const isStopped = this.database.primary.isStopped
    await this.database.closeMode()
    if (this.#parts.lease === true || isStopped) return
    this.database.openAsReplica(NO_EPOCH)
    this.#report()
    this.#following.added(this.database)
  }

  #roleChanged(role: NodeRole, before: NodeRole): void {
    this.#election.roleChanged(role, before)
    if (role.kind === 'replica') this.#knownMembers.follows(role.primary.name, role.primary.grpcAddress ?? '')
    const url = role.kind === 'replica' ? role.primary.advertiseUrl : undefined
    if (role.kind !== 'primary') this.#streamServer.endStreams()
    if (role.kind !== 'candidate') this.#following.follow(url)
    this.#parts.onRole(this, role)
  }

  async #executeHere(call: WriteCall, { deadlineMs }: WriteContext): Promise<WriteAnswer> {
    this.leadership.requirePrimary()
    requireAwaitable(call, this.#voters)
    const { operation, requestId, idempotencyKey } = call
    const committed = await this.database.write({ operation, requestId, idempotencyKey, deadlineMs })
    const answer = await awaitReplicas(call, committed, { replicas: this.positions, voters: this.#voters }, deadlineMs)
    this.#parts.onAnswer(this, call, answer)
    return answer
  }

  #report(): void {
    for (const listener of this.#progressListeners) listener()
    if (this.database.isPrimary) return
    this.#parts.onReport(this)
    this.#membership.reporter.update(this.database.report())
  }

  #holder(): LeaseHolder {
    const { name } = this
    return {
      hostname: name,
      advertiseUrl: `http://${name}:2`,
      grpcAddress: `${name}:1`,
      name,
      nodeId: this.nodeId,
      region: 'here',
      protocol: PROTOCOL_VERSION,
    }
  }

  #card() {
    const { name, nodeId } = this
    const role = this.leadership.role.kind
    const addresses = { grpcAddress: `${name}:1`, httpUrl: `http://${name}:2` }
    return { nodeId, nodeName: name, region: 'here', ...addresses, role, isCandidate: true }
  }

  #self() {
    return { ...this.#card(), positions: [this.database.report()] }
  }

  #facts() {
    const { isPrimary } = this.leadership
    const primary = this.leadership.primary()
    return {
      isPrimary,
      candidate: this.#lease.isCandidate,
      path: '/data',
      primaryHostname: primary?.hostname ?? '',
      name: this.name,
      region: 'here',
      grpc: `${this.name}:1`,
    }
  }
}
