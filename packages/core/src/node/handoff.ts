/**
 * The office of the primary moves to another node because somebody wants it to, and no write is lost or fails by it.
 *
 * Order: no write is admitted here any more (callers wait for the next primary) → what was admitted is committed, and whoever waits for replicas is
 * answered → the successor has all of it, durably and visibly → everybody is told who it is → office left, lease given back (leadership.ts) → the
 * successor takes the lease, asks and takes office like any candidate, the others leave the lease alone meanwhile.
 * LiteFS nodes have a way of their own: litefs-handoff.ts.
 * Relies on: replicas report positions; another program that commits to the database on this node in the middle of it is not waited for.
 * Promises: until the lease is given back a failure leaves the office here. After that somebody takes it: the successor, or whoever is there.
 */
import type { Clock } from '../base/clock.ts'
import type { DatabaseFacts } from '../engine/engine.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { Leadership } from '../leadership/leadership.ts'
import type { PrimaryInfo, Term } from '../leadership/node-role.ts'
import type { Lease } from '../lease/lease.ts'
import type { Succession } from '../peer/candidacy.ts'
import type { Members } from '../peer/members.ts'
import type { OfficeReply } from '../peer/office-client.ts'
import type { Member } from '../peer/wire-messages.ts'
import type { Epoch } from '../position/epoch.ts'
import type { ReplicaPositions } from '../position/replica-positions.ts'
import type { Election } from './election.ts'
import { HOLD_MS, LOOK_EVERY_MS, notHandedOff as failed } from './handoff-rules.ts'
import { LiteFsHandoff, type LiteFsHandoffParts } from './litefs-handoff.ts'

export interface HandoffParts {
  readonly clock: Clock
  readonly lease: Lease
  readonly leadership: Leadership
  readonly election: Election
  readonly members: Members
  readonly replicas: ReplicaPositions
  clusterId(): string
  databases(): readonly DatabaseFacts[]
  /** Tells one node who follows. */
  tell(address: string, succession: Succession, timeoutMs: number): Promise<void>
  /** Asks the primary, when another node is it. */
  askPrimary(address: string, to: string | undefined, timeoutMs: number): Promise<OfficeReply>
  readonly nodeName: string
  readonly liteFs: Pick<LiteFsHandoffParts, 'liteFs' | 'streams' | 'warn'>
}

const TELL_MS = 1_000
const CLOSING_MS = 3_000
const MEMBERS_MS = 50

export class Handoff {
  /** To and from LiteFS nodes. */
  readonly liteFs: LiteFsHandoff
  readonly #parts: HandoffParts

  constructor(parts: HandoffParts) {
    const { clock, lease, leadership } = parts
    this.#parts = parts
    this.liteFs = new LiteFsHandoff({
      ...parts.liteFs,
      clock,
      lease,
      leadership,
      nodeName: parts.nodeName,
      databases: () => parts.databases(),
      drained: (deadlineMs) => this.#drained(deadlineMs),
      tellAll: (successor, epoch) => this.#tellAll(successor, epoch),
    })
  }

  /**
   * Has another node take this cluster's office, whoever has it now.
   * @param to its name; `undefined`: the candidate that is furthest
   * @param deadlineMs monotonic, for what can still be taken back
   * @throws HANDOFF_FAILED, NO_PRIMARY; what the primary says
   */
  async handOff(to: string | undefined, deadlineMs: number): Promise<OfficeReply> {
    const { leadership, clock } = this.#parts
    const primary = leadership.primary() ?? (await leadership.waitForPrimary(deadlineMs))
    if (primary.isSelf) return { primary: (await this.#give(to, deadlineMs)).name }
    if (primary.grpcAddress === undefined) return this.liteFs.ask(primary, to, deadlineMs)
    return this.#parts.askPrimary(primary.grpcAddress, to, deadlineMs - clock.monotonicMs())
  }

  /**
   * Has this node take office.
   * @param acceptsLoss without a primary: although others have, or may have, transactions that are not here
   * @throws as `handOff`; NO_PRIMARY when there is none, with what keeps this node from the office
   */
  async promote(acceptsLoss: boolean, deadlineMs: number): Promise<OfficeReply> {
    const { leadership, lease, election, members } = this.#parts
    const { nodeName } = members.self
    if (!lease.isCandidate || lease.kind === 'static') throw failed(`node "${nodeName}" can be no candidate`)
    const primary = leadership.primary()
    if (primary?.isSelf === true) return { primary: nodeName }
    if (primary !== undefined) return this.handOff(nodeName, deadlineMs)
    if (acceptsLoss) election.acceptLoss(deadlineMs)
    leadership.standNow()
    return { primary: (await leadership.waitForPrimary(deadlineMs)).name }
  }

  /** Has this node, which is the primary, give its office to another one. Throws NOT_PRIMARY, HANDOFF_FAILED. */
  async demote(deadlineMs: number): Promise<OfficeReply> {
    return { primary: (await this.#give(undefined, deadlineMs)).name }
  }

  /** A primary that is about to close gives its office to another candidate, if one is there; what keeps it from that keeps nobody waiting. */
  async beforeClosing(): Promise<void> {
    const { leadership, members, clock } = this.#parts
    const hasCandidate = members
      .all()
      .slice(1)
      .some(({ isCandidate }) => isCandidate)
    if (!leadership.isPrimary || !hasCandidate) return
    await this.#give(undefined, clock.monotonicMs() + CLOSING_MS).catch(() => undefined)
  }

  /** The primary said who follows. */
  told({ successor, holdMs }: Succession): void {
    const { leadership, members } = this.#parts
    if (successor === members.self.nodeName) leadership.standNow()
    else leadership.standBack(Math.min(holdMs, HOLD_MS))
  }

  async #give(to: string | undefined, deadlineMs: number): Promise<PrimaryInfo> {
    const { leadership, lease, members } = this.#parts
    leadership.requirePrimary()
    if (lease.kind === 'static') throw failed('a static lease names the primary for ever', STATIC_HINT)
    const isMember = members.all().some(({ nodeName }) => nodeName === to)
    if (to !== undefined && !isMember && this.liteFs.knows(to)) return this.liteFs.give(to, deadlineMs)
    const successor = await this.#successor(to, deadlineMs)
    return leadership.handOff(successor.nodeName, (term) => this.#prepare(term, successor, deadlineMs), HOLD_MS)
  }

  /** Members are known some ms after they connected. */
  async #successor(to: string | undefined, deadlineMs: number): Promise<Member> {
    const { clock, members } = this.#parts
    for (;;) {
      const others = members.all().slice(1)
      const named = others.find(({ nodeName }) => nodeName === to)
      const found = to === undefined ? this.#furthest(others) : named
      if (found?.isCandidate === true) return found
      if (named !== undefined) throw failed(`node "${to}" is no candidate`)
      if (to === members.self.nodeName) throw failed(`node "${to}" is the primary already`)
      if (clock.monotonicMs() + MEMBERS_MS >= deadlineMs)
        throw failed(to === undefined ? 'no candidate is connected' : `node "${to}" is not connected`)
      await this.#sleep(MEMBERS_MS)
    }
  }

  #furthest(others: readonly Member[]): Member | undefined {
    const { replicas } = this.#parts
    const sum = ({ nodeId }: Member): bigint =>
      replicas.reportsOf(nodeId).reduce((total, { durable }) => total + durable.txid, 0n)
    const candidates = others.filter(({ isCandidate }) => isCandidate)
    return candidates.toSorted((a, b) => (sum(a) < sum(b) ? 1 : sum(a) > sum(b) ? -1 : 0))[0]
  }

  async #prepare(term: Term, successor: Member, deadlineMs: number): Promise<void> {
    await this.#drained(deadlineMs)
    await Promise.all(this.#parts.databases().map((database) => this.#untilThere(database, successor, deadlineMs)))
    const silent = await this.#tellAll(successor.nodeName, term.epoch, successor)
    if (silent.has(successor.nodeId)) {
      const cause = silent.get(successor.nodeId)
      throw failed(`node "${successor.nodeName}" does not answer: ${summaryOf(cause)}`, undefined, cause)
    }
  }

  /** What was admitted is committed, and whoever waits for replicas is answered. */
  async #drained(deadlineMs: number): Promise<void> {
    const { clock, replicas, databases } = this.#parts
    while (replicas.waiting > 0 || databases().some(({ queuedWrites }) => queuedWrites > 0)) {
      if (clock.monotonicMs() >= deadlineMs) throw failed('the writes that were admitted before did not end in time')
      await this.#sleep(LOOK_EVERY_MS)
    }
  }

  /**
   * Everybody is told who follows.
   * @param at the successor, which may be connecting anew at this moment
   * @returns the ids of those who did not hear it, and why
   */
  async #tellAll(successor: string, epoch: Epoch, at?: Member): Promise<ReadonlyMap<string, unknown>> {
    const { clusterId, members, tell } = this.#parts
    const { nodeName } = members.self
    const succession = { clusterId: clusterId(), nodeName, epoch, successor, holdMs: HOLD_MS }
    const silent = new Map<string, unknown>()
    const others = members.all().slice(1)
    const told = at === undefined ? others : [at, ...others.filter(({ nodeId }) => nodeId !== at.nodeId)]
    const telling = told.map(({ grpcAddress, nodeId }) =>
      tell(grpcAddress, succession, TELL_MS).catch((error: unknown) => silent.set(nodeId, error)),
    )
    await Promise.all(telling)
    return silent
  }

  async #untilThere({ name, position, epoch }: DatabaseFacts, successor: Member, deadlineMs: number): Promise<void> {
    if (position.txid === 0n) return
    const level = { replicas: 1, among: [successor.nodeName] }
    const { ended } = await this.#parts.replicas.waitFor(level, name, { position, epoch }, deadlineMs)
    if (ended !== 'reached')
      throw failed(`node "${successor.nodeName}" did not catch up with database "${name}" in time`)
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.#parts.clock.setTimer(ms, resolve))
  }
}

const STATIC_HINT = 'Configure another node as the primary and start the nodes again, or use a lease with an election.'

function summaryOf(error: unknown): string {
  return error instanceof ClusterError ? error.summary : String(error)
}
