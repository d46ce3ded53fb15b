/**
 * The primary's list of who belongs to the cluster: made from its channels, kept in `Members`, told to every replica.
 *
 * Promises: a node that joined or left is announced within `SETTLE_MS`; positions in the list are at most `REFRESH_MS`
 * old while they change. They serve operators and the choice of a node, nothing that needs them exact.
 */
import type { Clock, Timer } from '../base/clock.ts'
import type { ReplicaPositions } from '../position/replica-positions.ts'
import type { Members } from './members.ts'
import type { PeerServer } from './peer-server.ts'
import type { Member } from './wire-messages.ts'

export interface MembershipAnnouncerParts {
  readonly clock: Clock
  readonly server: Pick<PeerServer, 'replicas' | 'broadcastMembership'>
  readonly members: Members
  readonly positions: ReplicaPositions
}

const SETTLE_MS = 20
const REFRESH_MS = 1_000
/** With more positions than this in all, the list goes without: it must fit into one message for each replica. */
const POSITIONS_MAX = 20_000

export class MembershipAnnouncer {
  readonly #parts: MembershipAnnouncerParts
  #timer: Timer | undefined
  #dueMs = Number.POSITIVE_INFINITY
  #isInOffice = false

  constructor(parts: MembershipAnnouncerParts) {
    this.#parts = parts
  }

  /** This node became primary: from now on its list is the cluster's. */
  start(): void {
    this.#isInOffice = true
    this.#scheduleIn(SETTLE_MS)
  }

  /** This node is not the primary any more. Idempotent. */
  stop(): void {
    this.#isInOffice = false
    this.#timer?.cancel()
    this.#timer = undefined
    this.#dueMs = Number.POSITIVE_INFINITY
  }

  /** A replica joined or left. */
  membersChanged(): void {
    this.#scheduleIn(SETTLE_MS)
  }

  /** A replica reported positions. */
  positionsChanged(): void {
    this.#scheduleIn(REFRESH_MS)
  }

  #scheduleIn(delayMs: number): void {
    if (!this.#isInOffice) return
    const { clock } = this.#parts
    const dueMs = clock.monotonicMs() + delayMs
    if (dueMs >= this.#dueMs) return
    this.#timer?.cancel()
    this.#dueMs = dueMs
    this.#timer = clock.setTimer(delayMs, () => this.#announce())
  }

  #announce(): void {
    const { members, positions, server } = this.#parts
    this.#timer = undefined
    this.#dueMs = Number.POSITIVE_INFINITY
    const connected = server.replicas()
    const count = connected.reduce((sum, { hello }) => sum + positions.reportsOf(hello.nodeId).length, 0)
    const replicas: Member[] = connected.map(({ hello }) => ({
      nodeId: hello.nodeId,
      nodeName: hello.nodeName,
      region: hello.region,
      grpcAddress: hello.grpcAddress,
      httpUrl: hello.httpUrl,
      isCandidate: hello.isCandidate,
      // What it said of its role is as old as its channel; a node that reports positions to us follows us.
      role: 'replica',
      positions: count > POSITIONS_MAX ? [] : positions.reportsOf(hello.nodeId),
    }))
    members.replace(replicas)
    server.broadcastMembership(() => members.all())
  }
}
