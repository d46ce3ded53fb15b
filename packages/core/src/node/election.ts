/**
 * What a node does for an election beside holding the lease: as a candidate it asks the others, fetches what it lacks, and takes office or yields;
 * as one of the others it promises and says what it has.
 *
 * Order of taking office: promise itself → which cluster → ask → decide (promotion-plan.ts) → fetch → databases become a primary's → office recorded
 * here, then at the lease. Nothing is committed before the last of them. Order of answering: promise durable → own office ended → the old stream ended and
 * what it delivered is durable → positions. So whatever this node acknowledged to an older primary is in its answer (D13).
 *
 * Relies on: the lease for exclusion; a static lease has no election, and none of this happens.
 * After a crash: a promise stays; an office that was recorded here and not at the lease counts for nothing.
 * Bounds: `ASK_MS` for each answer, one answer at a time, `PULL_STALL_MS` without progress for what is fetched.
 */
import type { Clock, Timer } from '../base/clock.ts'
import { ClusterError, isClusterError } from '../errors/cluster-error.ts'
import type { NodeRole, Term } from '../leadership/node-role.ts'
import type { Lease } from '../lease/lease.ts'
import type { Candidacy, Standing } from '../peer/candidacy.ts'
import type { NodeCard } from '../peer/hello.ts'
import { type Epoch, NO_EPOCH } from '../position/epoch.ts'
import type { DatabaseStanding } from '../position/replica-report.ts'
import { type DatabaseName, databaseName } from '../request/database-name.ts'
import type { ClusterIdentity } from './cluster-identity.ts'
import type { KnownMember } from './known-members.ts'
import {
  hasEnoughAnswers,
  planPromotion,
  type PromotionPlan,
  type PromotionQuestion,
  type Pull,
} from './promotion-plan.ts'

/** A database as an election sees it. */
export interface ElectedDatabase {
  standing(): DatabaseStanding
  readonly contact: Contact | undefined
}

/** What this node had of a primary. */
interface Contact {
  readonly term: Epoch
  readonly isLiteFs: boolean
  readonly isCaughtUp: boolean
  readonly heardMs: number
}

export interface ElectionParts {
  readonly lease: Lease
  readonly clock: Clock
  readonly identity: ClusterIdentity
  readonly voters: readonly string[]
  card(): NodeCard
  /** Everybody this node ever heard of. */
  members(): readonly KnownMember[]
  /** `host:port` of nodes from other sources (discovery). */
  addresses(): readonly string[]
  databases(): readonly ElectedDatabase[]
  /** One node. Rejects when it does not answer within the time. */
  ask(address: string, candidacy: Candidacy, timeoutMs: number): Promise<Standing>
  /** Opens the database as a replica's where it is not open yet, and fetches what it lacks. */
  pull(database: DatabaseName, wanted: Pull, candidate: Epoch, signal: AbortSignal): Promise<void>
  /** The databases become a primary's. */
  takeOffice(epoch: Epoch): Promise<void>
  /** This node's own office ends when it is older. Resolves when it commits no more. */
  supersede(by: Epoch): Promise<void>
  /** The stream from an older primary ends; resolves when nothing of it is under way. */
  endOlderStreams(): Promise<void>
  /** What the databases have is durable; rejects when the disk refuses. */
  settled(): Promise<void>
  warn(name: string, message: string, details: Readonly<Record<string, unknown>>): void
}

const ASK_MS = 2_000
/** How long the answers of nodes are waited for that this one does not know of: they see who holds the lease, and dial. */
const MEET_MS = 500
const MET_MAX = 64
/** Once the answers would do, others are given so much longer: they may have more. */
const LATE_MS = 200
/** How long before the primary went away a replica may have heard of it last, and still had what it committed. */
const CONTACT_MS_MIN = 30_000
const CONTACT_TTLS = 3

export class Election {
  readonly #parts: ElectionParts
  #answering: Promise<unknown> = Promise.resolve()
  /** When this node stopped following somebody last, on the monotonic scale, and the newest epoch it had seen by then. */
  #lostPrimary: { readonly atMs: number; readonly newest: Epoch } | undefined
  /** An operator accepts a loss until then; monotonic. */
  #acceptsLossUntilMs = 0
  /** Name → address of who dialled this node, the newest last. */
  readonly #met = new Map<string, string>()
  /** While this node asks. */
  #askToo: ((address: string) => void) | undefined

  constructor(parts: ElectionParts) {
    this.#parts = parts
  }

  /** This node takes office although others may have more: once, until that time (monotonic), and not after another primary was seen. */
  acceptLoss(untilMs: number): void {
    this.#acceptsLossUntilMs = untilMs
  }

  get #acceptsLoss(): boolean {
    return this.#parts.clock.monotonicMs() < this.#acceptsLossUntilMs
  }

  /** A node dialled this one, which it found by the lease that this one holds: it is one to ask, too. */
  met({ nodeName, grpcAddress }: NodeCard): void {
    this.#met.delete(nodeName)
    this.#met.set(nodeName, grpcAddress)
    if (this.#met.size > MET_MAX) this.#met.delete([...this.#met.keys()][0]!)
    this.#askToo?.(grpcAddress)
  }

  roleChanged(role: NodeRole, before: NodeRole): void {
    if (role.kind === 'replica') this.#acceptsLossUntilMs = 0
    if (before.kind !== 'replica' || role.kind === 'replica') return
    const { clock, identity } = this.#parts
    this.#lostPrimary = { atMs: clock.monotonicMs(), newest: identity.newestEpoch }
  }

  /** From holding the lease to office. Throws `PROMOTION_REFUSED`, and what the databases throw. */
  async takeOffice(term: Term, signal: AbortSignal): Promise<void> {
    const { lease, identity, takeOffice } = this.#parts
    if (lease.kind === 'static') return takeOffice(term.epoch)
    identity.promise(term.epoch)
    await this.#parts.settled()
    const founds = await this.#findCluster(signal)
    const plan = await this.#plan(term, signal)
    this.#recordLosses(term, plan)
    for (const wanted of plan.pulls) await this.#parts.pull(databaseName(wanted.database), wanted, term.epoch, signal)
    if (founds) await this.#foundCluster(signal)
    signal.throwIfAborted()
    await takeOffice(term.epoch)
    identity.beginOffice(term.epoch)
    await term.lease.recordOffice()
    this.#acceptsLossUntilMs = 0
  }

  /** Another candidate asks. Throws `CLUSTER_MISMATCH`; `PROMOTION_REFUSED` when this node takes part in no election. */
  answer(candidacy: Candidacy): Promise<Standing> {
    const { lease, identity } = this.#parts
    if (lease.kind === 'static')
      return Promise.reject(
        new ClusterError('PROMOTION_REFUSED', 'this node has a static lease: it takes part in no election'),
      )
    const { clusterId } = identity
    if (clusterId !== undefined && candidacy.clusterId !== '' && candidacy.clusterId !== clusterId)
      return Promise.reject(
        new ClusterError(
          'CLUSTER_MISMATCH',
          `this node belongs to cluster ${clusterId}, the candidate to ${candidacy.clusterId}`,
        ),
      )
    const answer = this.#answering.then(() => this.#answer(candidacy))
    this.#answering = answer.catch(() => undefined)
    return answer
  }

  async #answer({ epoch }: Candidacy): Promise<Standing> {
    const { identity, supersede, endOlderStreams } = this.#parts
    const promised = epoch >= identity.promised
    if (promised) {
      identity.promise(epoch)
      await supersede(epoch)
      await endOlderStreams()
    }
    await this.#parts.settled()
    const { nodeId, nodeName, httpUrl } = this.#parts.card()
    return {
      clusterId: identity.clusterId ?? '',
      nodeName,
      nodeId,
      httpUrl,
      promised,
      promisedEpoch: identity.promised,
      databases: this.#standings(),
    }
  }

  /** Whether this node has to found a cluster. Throws when it belongs to another one than the lease is for. */
  async #findCluster(signal: AbortSignal): Promise<boolean> {
    const { lease, identity } = this.#parts
    const kept = await lease.clusterId?.read(signal)
    if (kept === undefined) return true
    if (identity.clusterId === kept) return false
    if (identity.clusterId !== undefined || !this.#acceptsLoss) throw otherCluster(identity.clusterId, kept)
    identity.adopt(kept)
    return false
  }

  /** Its id is at the lease before it is here, so that nobody is in a cluster of its own. */
  async #foundCluster(signal: AbortSignal): Promise<void> {
    const { lease, identity } = this.#parts
    const id = identity.clusterId ?? identity.newClusterId()
    const kept = (await lease.clusterId?.found(id, signal)) ?? id
    if (kept !== id) throw otherCluster(identity.clusterId, kept)
    identity.adopt(id)
  }

  async #plan(term: Term, signal: AbortSignal): Promise<PromotionPlan> {
    const { identity, voters } = this.#parts
    const { nodeId, nodeName } = this.#parts.card()
    const clusterId = identity.clusterId ?? ''
    const question = (asked: Asked): PromotionQuestion => ({
      name: nodeName,
      epoch: term.epoch,
      clusterId,
      databases: this.#standings(),
      ...asked,
      voters,
      // A LiteFS primary that gave its lease has nothing that this node lacks (handoff.ts).
      isCurrent: term.givenBy !== undefined || this.#isCurrent(term.lease.lastOffice),
      acceptsLoss: this.#acceptsLoss,
    })
    const asked = await this.#ask({ clusterId, nodeName, nodeId, epoch: term.epoch }, signal, (so) =>
      hasEnoughAnswers(question(so)),
    )
    return planPromotion(question(asked))
  }

  #standings(): readonly DatabaseStanding[] {
    return this.#parts.databases().map((database) => database.standing())
  }

  /** Whether this node had whatever was committed in the last office, but for what was on its way when that ended. */
  #isCurrent(lastOffice: Epoch): boolean {
    const { identity, lease, databases } = this.#parts
    const { atMs, newest } = this.#lostPrimary ?? { atMs: Infinity, newest: NO_EPOCH }
    const sinceMs = atMs - Math.max(CONTACT_MS_MIN, CONTACT_TTLS * lease.ttlMs)
    const contacts = databases().map(({ contact }) => contact)
    const hasFollowed = (isPrimary: (contact: Contact) => boolean): boolean =>
      contacts.length > 0 &&
      contacts.every((one) => one !== undefined && isPrimary(one) && one.isCaughtUp && one.heardMs >= sinceMs)
    // A LiteFS primary leaves no trace at the lease: this node followed one to its end, and no Litefleet node was in office since.
    if (lastOffice <= newest && hasFollowed(({ isLiteFs }) => isLiteFs)) return true
    if (lastOffice === NO_EPOCH) return false
    return identity.lastOffice === lastOffice || hasFollowed(({ term }) => term === lastOffice)
  }

  /**
   * Everybody at once, also who dials in meanwhile; until all have answered or failed and that is enough, or those that have are enough and the others were
   * given some time, or no more are to be expected.
   */
  async #ask(candidacy: Candidacy, signal: AbortSignal, isEnough: (so: Asked) => boolean): Promise<Asked> {
    const { clock, members, addresses } = this.#parts
    const known = members().filter(({ name }) => name !== candidacy.nodeName)
    const answers = new Map<string, Standing>()
    const asked = new Set<string>()
    const timers: Timer[] = []
    const done = Promise.withResolvers<void>()
    const so = (): Asked => ({
      answers: [...answers.values()],
      silent: known.filter(({ name, isMember }) => isMember && !answers.has(name)).map(({ name }) => name),
    })
    let open = 0
    let isMeetingOver = false
    const look = (): void => {
      if (isEnough(so()) && open === 0) done.resolve()
      else if (isEnough(so())) timers.push(clock.setTimer(LATE_MS, () => done.resolve()))
      else if (open === 0 && isMeetingOver) done.resolve()
    }
    const askOne = (address: string): void => {
      if (address === '' || asked.has(address)) return
      asked.add(address)
      open++
      void this.#askOne(address, candidacy).then((answer) => {
        open--
        // Under an address that was found it may be this node itself.
        if (answer !== undefined && answer.nodeName !== candidacy.nodeName) answers.set(answer.nodeName, answer)
        look()
      })
    }
    const abort = (): void => done.reject(signal.reason as Error)
    signal.addEventListener('abort', abort, { once: true })
    if (signal.aborted) abort()
    timers.push(clock.setTimer(ASK_MS, () => done.resolve()))
    timers.push(clock.setTimer(MEET_MS, () => ((isMeetingOver = true), look())))
    this.#askToo = askOne
    for (const { grpcAddress } of known) askOne(grpcAddress)
    for (const address of [...addresses(), ...this.#met.values()]) askOne(address)
    look()
    try {
      await done.promise
      return so()
    } finally {
      this.#askToo = undefined
      for (const timer of timers) timer.cancel()
      signal.removeEventListener('abort', abort)
    }
  }

  async #askOne(address: string, candidacy: Candidacy): Promise<Standing | undefined> {
    try {
      return await this.#parts.ask(address, candidacy, ASK_MS)
    } catch (error) {
      if (isClusterError(error, 'CLUSTER_MISMATCH')) this.#warnOther(address, error)
      return undefined
    }
  }

  #warnOther(address: string, error: ClusterError): void {
    this.#parts.warn('other-cluster', `${address}: ${error.summary}`, { address })
  }

  #recordLosses({ epoch }: Term, { losses }: PromotionPlan): void {
    if (losses.length === 0) return
    const { nodeName } = this.#parts.card()
    this.#parts.identity.recordLoss({ epoch, node: nodeName, losses })
    this.#parts.warn(
      'loss-accepted',
      `node "${nodeName}" takes office in epoch ${epoch} as it was asked to, although ${losses.join('; ')}`,
      { epoch, losses },
    )
  }
}

interface Asked {
  readonly answers: readonly Standing[]
  readonly silent: readonly string[]
}

function otherCluster(here: string | undefined, kept: string): ClusterError {
  return here === undefined
    ? new ClusterError(
        'PROMOTION_REFUSED',
        `cluster ${kept} exists already, and this node has not joined it: it takes no office before it has`,
        {
          details: { there: kept },
          hint: 'Start a node of the cluster. If all of them are gone: litefleet promote --accept-loss begins anew with what this node has.',
        },
      )
    : new ClusterError('CLUSTER_MISMATCH', `this node belongs to cluster ${here}, the lease to ${kept}`, {
        details: { here, there: kept },
        hint: 'Give this cluster a lease of its own (another key or directory), or the node an empty data directory.',
      })
}
