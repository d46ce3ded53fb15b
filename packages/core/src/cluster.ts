/**
 * The composition root: the only file that knows every room. It wires them and hands out what applications hold.
 *
 * Order on opening: SQLite checked → data directory owned → listeners up (so that addresses are known) → leadership → the role
 * decides how databases are opened. Order on closing: the office handed to another candidate, where there is one → nothing new is admitted → leadership given up → streams and channels
 * drained → readers closed → databases closed (log flushed, page checksums saved) → data directory given back.
 */
import { randomBytes } from 'node:crypto'
import type { Clock } from './base/clock.ts'
import { RunLoop } from './base/run-loop.ts'
import { Database } from './database/database.ts'
import { migrate, type Migrations } from './database/migrations.ts'
import type { EmbeddedDatabase } from './engine/embedded/embedded-database.ts'
import { EmbeddedEngine, GROUP } from './engine/embedded/embedded-engine.ts'
import { ClusterError, isClusterError } from './errors/cluster-error.ts'
import { invalidOption, rejectUnknownOptions } from './errors/unknown-option.ts'
import { DataDirectory } from './files/data-directory.ts'
import { ForwardHandler } from './forward/forward-handler.ts'
import { Forwarder } from './forward/forwarder.ts'
import { FunctionRunner } from './forward/function-runner.ts'
import { FunctionTable } from './forward/function-table.ts'
import { UnaryDoor } from './forward/unary-door.ts'
import type { ResolveAnswer, ResolveCall, WriteAnswer, WriteCall, WriteContext } from './forward/write-call.ts'
import { Leadership } from './leadership/leadership.ts'
import { resolveLeadershipOptions } from './leadership/leadership-options.ts'
import type { NodeRole, PrimaryInfo, Term } from './leadership/node-role.ts'
import type { Lease } from './lease/lease.ts'
import type { LeaseHolder } from './lease/lease-holder.ts'
import { awaitReplicas, requireAwaitable } from './node/await-replicas.ts'
import { ClusterIdentity } from './node/cluster-identity.ts'
import { createLease } from './node/create-lease.ts'
import { Discovery } from './node/discovery.ts'
import { Election } from './node/election.ts'
import { type NodeEnvironment, realEnvironment } from './node/environment.ts'
import { Following } from './node/following.ts'
import { Handoff } from './node/handoff.ts'
import { KnownMembers } from './node/known-members.ts'
import { Membership } from './node/membership.ts'
import type { Pull } from './node/promotion-plan.ts'
import { pull } from './node/pull.ts'
import { nodeStatus } from './node/status.ts'
import {
  type ClusterOptions,
  type ResolvedClusterOptions,
  requireReachable,
  resolveClusterOptions,
} from './options/cluster-options.ts'
import { askStanding, tellSuccession } from './peer/candidacy.ts'
import { sendHandOff } from './peer/office-client.ts'
import { resolvePeerOptions } from './peer/peer-options.ts'
import { PeerPool } from './peer/peer-pool.ts'
import type { NodeStatus } from './peer/node-status.ts'
import { PeerServer } from './peer/peer-server.ts'
import { loadPeerProtocol, PROTOCOL_VERSION } from './peer/protocol.ts'
import { requireSecureListener } from './peer/secure-listener.ts'
import { type Epoch, NO_EPOCH } from './position/epoch.ts'
import { ReplicaPositions } from './position/replica-positions.ts'
import { Voters } from './position/voters.ts'
import { defineProcedure, type Procedure, type ProcedureBody } from './procedure/procedure.ts'
import {
  defineRemoteFunction,
  type RemoteFunction,
  type RemoteFunctionBody,
  type RpcOptions,
  resolveRpcOptions,
} from './procedure/remote-function.ts'
import { admitOperation } from './request/admit-operation.ts'
import { type DatabaseName, databaseName } from './request/database-name.ts'
import type { PlainValue } from './request/plain-value.ts'
import { type RequestId, RequestIdSource } from './request/request-id.ts'
import { assertUsableSqlite } from './sqlite/sqlite-library.ts'
import { InfoClient } from './stream/info-client.ts'
import { LiteFsClient } from './stream/litefs-client.ts'
import type { OfficeControl } from './stream/office-route.ts'
import { StreamServer } from './stream/stream-server.ts'
import { resolveStreamServerOptions } from './stream/stream-server-options.ts'
import { resolveStreamSinkOptions } from './stream/stream-sink-options.ts'
import type { CallTarget } from './forward/call-router.ts'

/** How long `cluster.database()` waits for a primary, a first snapshot, or a schema, by default. */
const OPEN_TIMEOUT_MS = 30_000
/** A replica knows its lag no more exactly than this while nothing is written. */
const HEARTBEAT_MS = 250
const OFFICE_TIMEOUT_MS = 10_000
const PRUNE_EVERY_MS = 10_000

export interface DatabaseOptions {
  /**
   * Schema changes, run once on the primary in order of name: a directory of `*.sql` files, or the list itself.
   * Replicas wait until all of them have arrived.
   */
  readonly migrations?: Migrations | undefined
  /** How long opening may take, waits for the primary included, in ms. Default: 30,000. */
  readonly timeoutMs?: number | undefined
}

export interface OfficeOptions {
  /** How long it may take, in ms. Default: 10,000. */
  readonly timeoutMs?: number | undefined
}

export interface PromoteOptions extends OfficeOptions {
  /**
   * Where there is no primary: take office although others have, or may have, transactions that this node lacks. Those are lost, and that is
   * recorded. Default: false.
   */
  readonly acceptLoss?: boolean | undefined
}

export interface ProcedureDefinition<Input, Output> extends ProcedureBody<Input, Output> {
  readonly database: Database
}

/** Calls of functions on other nodes, like Fly.RPC: by role, by region, by name. */
export interface Rpc {
  primary<I extends PlainValue, O extends PlainValue>(
    fn: RemoteFunction<I, O>,
    input: I,
    options?: RpcOptions,
  ): Promise<O>
  /** The nearest node of the region. */
  region<I extends PlainValue, O extends PlainValue>(
    region: string,
    fn: RemoteFunction<I, O>,
    input: I,
    options?: RpcOptions,
  ): Promise<O>
  node<I extends PlainValue, O extends PlainValue>(
    name: string,
    fn: RemoteFunction<I, O>,
    input: I,
    options?: RpcOptions,
  ): Promise<O>
}

/** Opens a node of a cluster. Throws what is wrong with options, platform, data directory or listeners. */
export function openCluster(options: ClusterOptions): Promise<Cluster> {
  return openClusterIn(realEnvironment, options)
}

/** @internal The same on a machine that a test made up. */
export async function openClusterIn(environment: NodeEnvironment, options: ClusterOptions): Promise<Cluster> {
  const resolved = resolveClusterOptions(options, process.env)
  assertUsableSqlite()
  requireSecureListener(resolved.listen.host, resolved.clusterKeys.length > 0)
  requireReachable(resolved)
  const directory = DataDirectory.open(environment.disk, resolved.dataDir)
  let cluster: Cluster
  try {
    cluster = new Cluster(resolved, directory, environment)
  } catch (error) {
    directory.close()
    throw error
  }
  await cluster.open()
  return cluster
}

export class Cluster implements AsyncDisposable {
  /** Names of functions on other nodes are looked up there; register the same ones everywhere. */
  readonly rpc: Rpc
  readonly #options: ResolvedClusterOptions
  readonly #environment: NodeEnvironment
  readonly #clock: Clock
  readonly #nodeId = randomBytes(8)
  readonly #directory: DataDirectory
  readonly #identity: ClusterIdentity
  readonly #requestIds: RequestIdSource
  readonly #functions = new FunctionTable()
  readonly #runner: FunctionRunner
  readonly #replicaPositions: ReplicaPositions
  readonly #voters: Voters
  readonly #membership: Membership
  readonly #engine: EmbeddedEngine
  readonly #lease: Lease
  readonly #leadership: Leadership
  readonly #knownMembers: KnownMembers
  readonly #discovery: Discovery
  readonly #election: Election
  readonly #handoff: Handoff
  readonly #peers: PeerPool
  readonly #peerServer: PeerServer
  readonly #streamServer: StreamServer
  readonly #forwarder: Forwarder
  readonly #following: Following
  readonly #pruning: RunLoop
  readonly #handles = new Map<string, Promise<Database>>()
  readonly #progressListeners = new Set<() => void>()
  /** Rejected with what kept this node from taking office: it is told to whoever opens a node that can be nothing but the primary. */
  readonly #officeFailed = Promise.withResolvers<never>()
  #grpcPort = 0
  #httpPort = 0
  #closing: Promise<void> | undefined
  /** Closing has come to where the databases are closed as they are. */
  #isEnding = false

  /** @internal Use `openCluster`. */
  constructor(options: ResolvedClusterOptions, directory: DataDirectory, environment: NodeEnvironment) {
    const { clock, disk, route } = environment
    this.#options = options
    this.#environment = environment
    this.#clock = clock
    this.#officeFailed.promise.catch(() => undefined) // a node that does not wait for it is no unhandled rejection
    const keys = options.clusterKeys
    this.#directory = directory
    const warn = (name: string, message: string, details: Readonly<Record<string, unknown>>): void =>
      options.onWarning({ name, message, details })
    this.#identity = new ClusterIdentity({
      disk,
      clock,
      directory: this.#directory,
      group: GROUP,
      random: Math.random,
      warn,
    })
    this.#requestIds = new RequestIdSource(() => clock.nowMs(), randomBytes(6))
    this.#runner = new FunctionRunner(this.#functions, clock)
    this.#replicaPositions = new ReplicaPositions({ clock })
    this.#voters = new Voters(options.voters, options.node.name)
    this.#membership = new Membership({ clock, positions: this.#replicaPositions, self: () => this.#self() })
    this.#engine = new EmbeddedEngine({
      disk,
      clock,
      directory: this.#directory,
      log: options.log,
      ledger: options.ledger,
      setup: options.setup,
      nodeId: this.#nodeId.readBigUInt64BE(),
      requestIds: this.#requestIds,
      requirePrimary: () => this.#leadership.requireOffice(),
      onProgress: (database) => this.#report(database),
      onRestartStream: (database) => this.#following.restart(database),
      onEpochs: (table) => this.#identity.seen(table),
      lastOffice: () => this.#identity.lastOffice,
      warn,
    })
    this.#lease = this.#createLease()
    this.#leadership = new Leadership({
      lease: this.#lease,
      clock,
      options: resolveLeadershipOptions(),
      random: Math.random,
      self: () => this.#holder(),
      newestEpoch: () => this.#identity.newestEpoch,
      takeOffice: (term, signal) => this.#takeOffice(term, signal),
      leaveOffice: () => this.#leaveOffice(),
      onFailure: (error) => this.#warn('leadership', error),
    })
    this.#knownMembers = new KnownMembers({
      disk,
      file: directory.membersFile(GROUP),
      voters: options.voters,
      members: this.#membership.members,
      onFailure: (error) => this.#warn('members', error),
    })
    const protocol = loadPeerProtocol()
    const peerOptions = resolvePeerOptions()
    const hello = () => ({ ...this.#card(), clusterId: this.#identity.clusterId ?? '', databases: this.#epochTables() })
    this.#peers = new PeerPool({
      clock,
      protocol,
      options: peerOptions,
      keys,
      route,
      random: Math.random,
      hello,
      adoptClusterId: (id) => this.#identity.adopt(id),
    })
    this.#discovery = new Discovery({
      sources: options.peers,
      clock,
      random: Math.random,
      onFailure: (error, name) => this.#warn(`discovery of ${name}`, error),
    })
    this.#election = new Election({
      lease: this.#lease,
      clock,
      identity: this.#identity,
      voters: options.voters,
      card: () => this.#card(),
      members: () => this.#knownMembers.all,
      addresses: () => this.#discovery.addresses,
      databases: () => this.#engine.databases,
      ask: (address, candidacy, timeoutMs) => askStanding(route(address), candidacy, { keys, protocol, timeoutMs }),
      pull: (database, wanted, candidate, signal) => this.#pull(database, wanted, candidate, signal),
      takeOffice: (epoch) => this.#engine.takeOffice(epoch),
      supersede: (by) => this.#leadership.supersede(by),
      endOlderStreams: () => this.#following.renew(),
      settled: () => this.#engine.settled(),
      warn,
    })
    this.#handoff = new Handoff({
      clock,
      lease: this.#lease,
      leadership: this.#leadership,
      election: this.#election,
      members: this.#membership.members,
      replicas: this.#replicaPositions,
      clusterId: () => this.#identity.clusterId ?? '',
      databases: () => this.#engine.databases.map((database) => database.facts()),
      tell: (address, succession, timeoutMs) =>
        tellSuccession(route(address), succession, { keys, protocol, timeoutMs }),
      askPrimary: (address, to, timeoutMs) => sendHandOff(route(address), to, { keys, protocol, timeoutMs }),
      nodeName: options.node.name,
      liteFs: {
        liteFs: new LiteFsClient({ nodeId: this.#liteFsId, clock, route }),
        streams: {
          hasSentAll: (nodeId) => this.#streamServer.hasSentAll(nodeId),
          handOver: (nodeId, leaseId) => this.#streamServer.handOver(nodeId, leaseId),
        },
        warn: (error) => this.#warn('handoff', error),
      },
    })
    const executeHere = (call: WriteCall, context: WriteContext) => this.#executeHere(call, context)
    const resolveHere = (call: ResolveCall, context: WriteContext) => this.#resolveHere(call, context)
    this.#forwarder = new Forwarder({
      clock,
      leadership: this.#leadership,
      peers: this.#peers,
      members: this.#membership.members,
      functions: this.#runner,
      requestIds: this.#requestIds,
      executeHere,
      resolveHere,
      awaitLocal: (database, { position, epoch }, deadlineMs) =>
        this.#engine.require(database).tracker.waitFor(position, deadlineMs, epoch),
    })
    const handler = new ForwardHandler({
      clock,
      leadership: this.#leadership,
      functions: this.#runner,
      messageBytesMax: peerOptions.messageBytesMax,
      executeHere,
      resolveHere,
    })
    const door = new UnaryDoor({ forwarder: this.#forwarder, clock, nodeName: options.node.name })
    this.#peerServer = new PeerServer({
      clock,
      protocol,
      options: peerOptions,
      keys,
      hello,
      handlers: {
        request: (request) => handler.handle(request),
        write: (request, deadlineMs) => door.write(request, deadlineMs),
        call: (request, deadlineMs) => door.call(request, deadlineMs),
        resolve: (request, deadlineMs) => door.resolve(request, deadlineMs),
        stand: (candidacy) => this.#election.answer(candidacy),
        succeed: (succession) => this.#handoff.told(succession),
        promote: (acceptLoss, deadlineMs) => this.#handoff.promote(acceptLoss, deadlineMs),
        handOff: (to, deadlineMs) => this.#handoff.handOff(to === '' ? undefined : to, deadlineMs),
        demote: (deadlineMs) => this.#handoff.demote(deadlineMs),
        status: () => this.status(),
        met: (peer) => this.#election.met(peer),
        replicaJoined: (peer) => this.#membership.joined(peer),
        replicaReported: (peer, reports) => this.#membership.reported(peer, reports),
        replicaLeft: (peer) => this.#membership.left(peer),
      },
    })
    this.#membership.attach(this.#peerServer, this.#peers, this.#leadership)
    this.#streamServer = new StreamServer({
      node: {
        nodeId: this.#liteFsId,
        clusterId: () => this.#identity.clusterId,
        isPrimary: () => this.#leadership.isInOffice,
        term: () => this.#leadership.epoch,
        promised: () => this.#identity.promised,
        facts: () => this.#facts(),
        databases: () => this.#engine.databases,
        database: (name) => this.#engine.database(name),
        onDatabaseAdded: (listener) => this.#engine.onDatabaseAdded(listener),
      },
      keys,
      clock,
      onLiteFs: (nodeId) => this.#replicaPositions.liteFsConnected(nodeId),
      office: options.interopHandoff ? this.#officeForLiteFs() : undefined,
      options: resolveStreamServerOptions({
        host: options.listen.host,
        port: options.listen.httpPort,
        interop: options.interop,
        heartbeatMs: HEARTBEAT_MS,
      }),
      onFailure: (error, request) => this.#warn(`serve ${request.path}`, error),
    })
    this.#following = new Following({
      ...this.#sinkParts(),
      promised: () => this.#identity.promised,
      databases: () => this.#engine.databases,
      onHandoff: (offer) => this.#handoff.liteFs.offered(offer),
      onFailure: (error, database) => this.#warn('stream', error, { database }),
    })
    this.#pruning = new RunLoop({
      clock,
      minDelayMs: PRUNE_EVERY_MS,
      maxDelayMs: PRUNE_EVERY_MS,
      random: Math.random,
      task: () => Promise.resolve(this.#engine.prune((name) => this.#streamServer.slowestTxid(databaseName(name)))),
      onFailure: (error) => this.#warn('retention', error),
    })
    this.rpc = {
      primary: (fn, input, given) => this.#call({ kind: 'primary' }, fn, input, given),
      region: (region, fn, input, given) => this.#call({ kind: 'region', region }, fn, input, given),
      node: (name, fn, input, given) => this.#call({ kind: 'node', name }, fn, input, given),
    }
  }

  /** This node stands in elections. */
  get #isElectable(): boolean {
    return this.#lease.kind !== 'static' && this.#lease.isCandidate
  }

  /** This node is the primary because its configuration says so: it is open when it is in office. */
  get #isAppointed(): boolean {
    const { lease } = this.#options
    return lease.kind === 'static' && lease.primary === true
  }

  /** @internal */
  async open(): Promise<void> {
    try {
      if (this.#isAppointed) this.#identity.found()
      this.#grpcPort = await this.#peerServer.listen(this.#options.listen.host, this.#options.listen.grpcPort)
      this.#httpPort = await this.#streamServer.listen()
      this.#leadership.onChange((role, before) => this.#roleChanged(role, before))
      this.#engine.onDatabaseAdded((database) => this.#databaseAdded(database))
      // Whoever may be the primary follows with all it has, so that it can be it, and can say what it has.
      if (this.#isElectable) await this.#engine.openAll()
      this.#discovery.start()
      this.#leadership.open()
      this.#pruning.start()
      if (this.#isAppointed) {
        const inOffice = this.#leadership.waitForPrimary(this.#clock.monotonicMs() + OPEN_TIMEOUT_MS)
        await Promise.race([inOffice, this.#officeFailed.promise])
      }
    } catch (error) {
      await this.close().catch(() => undefined) // the first failure is the one to tell
      throw error
    }
  }

  /** This node. The id is new in each process. */
  get node(): { readonly id: string; readonly name: string; readonly region: string } {
    return { id: this.#nodeId.toString('hex'), ...this.#options.node }
  }

  /** `undefined` before a replica has reached its primary for the first time. */
  get clusterId(): string | undefined {
    return this.#identity.clusterId
  }

  /** Where other nodes reach this one: `host:port` of gRPC, URL of the LiteFS-compatible API. */
  get addresses(): { readonly grpc: string; readonly http: string } {
    const { advertise } = this.#options
    const host = /^[^[].*:/.test(advertise.host) ? `[${advertise.host}]` : advertise.host
    return {
      grpc: advertise.grpc ?? `${host}:${this.#grpcPort}`,
      http: advertise.http ?? `http://${host}:${this.#httpPort}`,
    }
  }

  get role(): NodeRole {
    return this.#leadership.role
  }

  /** The node that takes writes now, as far as this one knows. */
  get primary(): PrimaryInfo | undefined {
    return this.#leadership.primary()
  }

  /** Calls `listener` after each change of this node's role, or of the primary it follows. Answers how to stop. */
  onRole(listener: (role: NodeRole) => void): () => void {
    return this.#leadership.onChange(listener)
  }

  /**
   * Opens a database on this node; once per name, further calls answer the same handle. On the primary it is created when
   * missing and migrated. On a replica the promise resolves when there is a copy to read, with the schema it asked for.
   * @throws WAIT_TIMEOUT, SCHEMA_NOT_READY, MIGRATION_FAILED, NOT_A_DATABASE, INVALID_DATABASE_NAME
   */
  async database(name: string, options: DatabaseOptions = {}): Promise<Database> {
    rejectUnknownOptions(options, ['migrations', 'timeoutMs'], `database "${name}"`)
    this.#requireOpen()
    const deadlineMs = this.#clock.monotonicMs() + (options.timeoutMs ?? OPEN_TIMEOUT_MS)
    const database = await this.#handle(databaseName(name), deadlineMs)
    if (options.migrations !== undefined) {
      const engine = this.#engine.require(databaseName(name))
      const isPrimary = (): boolean => this.#leadership.isPrimary
      const onRole = (listener: () => void): (() => void) => this.#leadership.onChange(listener)
      await migrate(options.migrations, { database, engine, ...this.#environment, isPrimary, onRole, deadlineMs })
    }
    return database
  }

  /**
   * Wraps a function so that, called on any node, it runs in one transaction at the primary.
   * Register the same procedures on every node that may become primary, before it takes traffic.
   */
  procedure<Input extends PlainValue, Output extends PlainValue>(
    name: string,
    definition: ProcedureDefinition<Input, Output>,
  ): Procedure<Input, Output> {
    rejectUnknownOptions(definition, ['database', 'input', 'run'], `procedure "${name}"`)
    const { database, ...body } = definition
    if (!(database instanceof Database))
      invalidOption(`procedure "${name}"`, 'database', database, 'a handle from cluster.database()')
    const engine = this.#engine.require(databaseName(database.name))
    return defineProcedure(
      { name, database: engine.name, table: engine.procedures, write: (call) => this.#write(call) },
      body,
    )
  }

  /** Registers a function that `rpc` can run on this node, and answers how other nodes name it. It may be asynchronous. */
  remoteFunction<Input extends PlainValue, Output extends PlainValue>(
    name: string,
    body: RemoteFunctionBody<Input, Output>,
  ): RemoteFunction<Input, Output> {
    return defineRemoteFunction(name, this.#functions, body)
  }

  /** An id for a write that is going to be made, to be kept before it is sent: `{ requestId }` in its options, `database.resolve(id)`. */
  newRequestId(): RequestId {
    return this.#requestIds.next()
  }

  /**
   * Has this node become the primary: the primary hands its office to it, and without one it stands for the lease at once. Resolves when it is.
   * @throws HANDOFF_FAILED; NO_PRIMARY, with what keeps it from office
   */
  async promote(options: PromoteOptions = {}): Promise<void> {
    rejectUnknownOptions(options, ['acceptLoss', 'timeoutMs'], 'promote')
    await this.#handoff.promote(options.acceptLoss === true, this.#officeDeadline(options))
  }

  /**
   * Has the primary, whoever it is, hand its office to the node of this name, or to the candidate that is furthest. Writes wait meanwhile, none
   * fails. Answers the name of the new primary.
   * @throws HANDOFF_FAILED: the office is where it was; NO_PRIMARY
   */
  async handOff(to?: string, options: OfficeOptions = {}): Promise<string> {
    rejectUnknownOptions(options, ['timeoutMs'], 'handOff')
    return (await this.#handoff.handOff(to, this.#officeDeadline(options))).primary
  }

  /** What LiteFS nodes may ask for, where they may. */
  #officeForLiteFs(): OfficeControl {
    return {
      promote: async () => void (await this.#handoff.promote(false, this.#officeDeadline({}))),
      handOff: async (nodeId) => void (await this.#handoff.liteFs.give(nodeId, this.#officeDeadline({}))),
    }
  }

  get #liteFsId(): string {
    return this.#nodeId.toString('hex').toUpperCase()
  }

  #officeDeadline({ timeoutMs = OFFICE_TIMEOUT_MS }: OfficeOptions): number {
    this.#requireOpen()
    return this.#clock.monotonicMs() + timeoutMs
  }

  /** Everything an operator wants to know, as plain data. */
  status(): NodeStatus {
    return nodeStatus({
      card: this.#card(),
      clusterId: this.#identity.clusterId ?? '',
      role: this.#leadership.role,
      term: this.#leadership.isInOffice ? this.#leadership.epoch : NO_EPOCH,
      failure: this.#leadership.failure,
      primary: this.#leadership.primary(),
      databases: this.#engine.databases.map((database) => database.facts()),
      members: this.#membership.members.all(),
      standings: (name) => (this.#leadership.isPrimary ? this.#replicaPositions.standings(name) : []),
      liteFs: this.#replicaPositions.uncounted,
    })
  }

  /** Leaves the cluster in good order. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #handle(name: DatabaseName, deadlineMs: number): Promise<Database> {
    const known = this.#handles.get(name)
    if (known !== undefined) return known
    const opening = this.#openHandle(name, deadlineMs)
    this.#handles.set(name, opening)
    // A failed attempt may be repeated.
    opening.catch(() => this.#handles.delete(name))
    return opening
  }

  async #openHandle(name: DatabaseName, deadlineMs: number): Promise<Database> {
    // Everybody else is a replica, also while there is no primary: it serves what it has.
    if (this.#isAppointed) await this.#leadership.waitForPrimary(deadlineMs)
    const engine = await this.#engine.open(name)
    try {
      await engine.whenReady(deadlineMs)
    } catch (error) {
      if (isClusterError(error, 'WAIT_TIMEOUT') && this.primary === undefined)
        await this.#leadership.waitForPrimary(deadlineMs) // says why there is none
      throw error
    }
    return new Database({
      engine,
      clock: this.#clock,
      write: (call) => this.#write(call),
      resolve: (call) => this.#forwarder.resolve(call),
    })
  }

  #write(call: WriteCall): Promise<WriteAnswer> {
    if (this.#leadership.isPrimary) return this.#forwarder.write(call) // the engine admits it
    return this.#forwarder.write({ ...call, operation: admitOperation(call.operation).operation })
  }

  async #executeHere(call: WriteCall, { deadlineMs }: WriteContext): Promise<WriteAnswer> {
    this.#leadership.requirePrimary()
    requireAwaitable(call, this.#voters)
    const { operation, requestId, idempotencyKey } = call
    const committed = await this.#engine
      .require(call.database)
      .write({ operation, requestId, idempotencyKey, deadlineMs })
    return awaitReplicas(call, committed, { replicas: this.#replicaPositions, voters: this.#voters }, deadlineMs)
  }

  async #resolveHere({ database, requestId }: ResolveCall, { deadlineMs }: WriteContext): Promise<ResolveAnswer> {
    this.#leadership.requirePrimary()
    return this.#engine.require(database).resolve({ requestId, deadlineMs })
  }

  #call<I extends PlainValue, O extends PlainValue>(
    target: CallTarget,
    fn: RemoteFunction<I, O>,
    input: I,
    given: RpcOptions | undefined,
  ): Promise<O> {
    const { timeoutMs } = resolveRpcOptions(given)
    // What the function on the other node answers is what it was declared to answer, or a defect of the deployment.
    return this.#forwarder.call(target, fn.functionName, input, timeoutMs) as Promise<O>
  }

  async #takeOffice(term: Term, signal: AbortSignal): Promise<void> {
    try {
      await this.#following.settled()
      await this.#election.takeOffice(term, signal)
    } catch (error) {
      this.#officeFailed.reject(error)
      throw error
    }
  }

  async #pull(name: DatabaseName, wanted: Pull, candidate: Epoch, signal: AbortSignal): Promise<void> {
    const onProgress = (listener: () => void): (() => void) => {
      this.#progressListeners.add(listener)
      return () => this.#progressListeners.delete(listener)
    }
    const parts = { stream: this.#sinkParts(), clock: this.#clock, candidate, onProgress }
    await pull(wanted, await this.#engine.open(name), parts, signal)
  }

  async #leaveOffice(): Promise<void> {
    this.#replicaPositions.abandonWaits()
    if (this.#isEnding) return
    await this.#engine.leaveOffice(this.#leadership.notPrimary())
    for (const database of this.#engine.databases) this.#following.restart(database)
  }

  #roleChanged(role: NodeRole, before: NodeRole): void {
    this.#election.roleChanged(role, before)
    // A handoff goes on sending, and when it fails nothing has changed.
    if (role.kind === 'handing-off' || (before.kind === 'handing-off' && role.kind === 'primary')) return
    const url = role.kind === 'replica' ? role.primary.advertiseUrl : undefined
    if (role.kind === 'replica') this.#knownMembers.follows(role.primary.name, role.primary.grpcAddress ?? '')
    if (role.kind !== 'primary') this.#streamServer.endStreams()
    this.#streamServer.publish({
      kind: 'primary-change',
      isPrimary: role.kind === 'primary',
      hostname: role.kind === 'replica' ? role.primary.hostname : undefined,
    })
    this.#following.follow(url)
  }

  #databaseAdded(database: EmbeddedDatabase): void {
    this.#following.added(database)
    this.#report(database)
    database.tracker.onAdvance((positions) => {
      if (this.#streamServer.subscriberCount === 0) return
      const { pageSize, pageCount } = database.facts()
      for (const { position } of positions) {
        const timestampMs = this.#clock.nowMs()
        this.#streamServer.publish({
          kind: 'tx',
          database: database.name,
          position,
          pageSize,
          commit: pageCount,
          timestampMs,
        })
      }
    })
  }

  #report(database: EmbeddedDatabase): void {
    for (const listener of this.#progressListeners) listener()
    if (database.isPrimary) return
    this.#membership.reporter.update(database.report())
  }

  #createLease(): Lease {
    const { lease, clusterKeys, node } = this.#options
    const { clock, disk, route } = this.#environment
    const clusterId = () => this.#identity.clusterId
    return createLease({
      options: lease,
      clock,
      disk,
      route,
      epochs: { next: (above) => Promise.resolve(this.#identity.nextEpoch(above)) },
      info: new InfoClient({ keys: clusterKeys, nodeName: node.name, clusterId, clock, route }),
      random: Math.random,
    })
  }

  #holder(): LeaseHolder {
    const { node } = this.#options
    const { grpc, http } = this.addresses
    return {
      hostname: node.name,
      advertiseUrl: http,
      grpcAddress: grpc,
      name: node.name,
      nodeId: this.#nodeId.toString('hex'),
      region: node.region,
      protocol: PROTOCOL_VERSION,
    }
  }

  #card() {
    const { grpc, http } = this.addresses
    const { name, region } = this.#options.node
    return {
      nodeId: this.#nodeId.toString('hex'),
      nodeName: name,
      region,
      grpcAddress: grpc,
      httpUrl: http,
      role: this.#leadership.role.kind,
      isCandidate: this.#isElectable,
    }
  }

  /** Of every stream into this node. */
  #sinkParts() {
    const { clock, route } = this.#environment
    const { node, clusterKeys, interop } = this.#options
    return {
      nodeId: this.#liteFsId,
      nodeName: node.name,
      keys: clusterKeys,
      interop,
      clusterId: () => this.#identity.clusterId,
      adoptClusterId: (id: string) => this.#identity.adopt(id),
      clock,
      route,
      random: Math.random,
      options: resolveStreamSinkOptions(),
    }
  }

  #self() {
    return { ...this.#card(), positions: this.#engine.databases.map((database) => database.report()) }
  }

  #facts() {
    const { node, dataDir } = this.#options
    const primary = this.#leadership.primary()
    return {
      isPrimary: this.#leadership.isPrimary,
      candidate: this.#lease.isCandidate,
      path: dataDir,
      primaryHostname: primary?.hostname ?? '',
      name: node.name,
      region: node.region,
      grpc: this.addresses.grpc,
    }
  }

  #epochTables() {
    return this.#engine.databases.map((database) => ({ database: database.name, epochs: database.epochTable() }))
  }

  #warn(name: string, error: unknown, details: Readonly<Record<string, unknown>> = {}): void {
    if (this.#closing !== undefined) return
    this.#options.onWarning({ name, message: `${name}: ${messageOf(error)}`, details })
  }

  #requireOpen(): void {
    if (this.#closing !== undefined) throw new ClusterError('CLOSED', 'the cluster was closed')
  }

  async #close(): Promise<void> {
    await this.#pruning.stop()
    if (this.#isElectable) await this.#handoff.beforeClosing()
    this.#isEnding = true
    await this.#leadership.close()
    this.#engine.abandonWaits()
    const handles = await Promise.allSettled(this.#handles.values())
    await this.#lease.close()
    this.#membership.close()
    this.#knownMembers.close()
    await this.#discovery.close()
    this.#forwarder.close()
    await this.#peerServer.close()
    await this.#following.close()
    await this.#streamServer.close()
    await this.#peers.close()
    this.#runner.close()
    this.#replicaPositions.close()
    // Readers first; one that the application keeps open does not stop the rest from closing.
    const open = handles.filter((handle) => handle.status === 'fulfilled')
    const readers = await Promise.allSettled(open.map((handle) => handle.value.close()))
    try {
      await this.#engine.close()
    } finally {
      this.#directory.close()
    }
    const kept = readers.find((reader) => reader.status === 'rejected')
    if (kept !== undefined) throw kept.reason
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
