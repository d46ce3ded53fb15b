/**
 * Who belongs to the cluster right now, and what each node has.
 *
 * On a replica: one channel to the primary is kept open; positions are reported on it and the list of members comes back
 * (`PrimaryLink`). On the primary: replicas join by opening a channel and reporting; the list is told to all of them
 * (`MembershipAnnouncer`).
 */
import type { Clock } from '../base/clock.ts'
import { PrimaryLink } from '../forward/primary-link.ts'
import type { Leadership } from '../leadership/leadership.ts'
import type { Hello } from '../peer/hello.ts'
import { Members } from '../peer/members.ts'
import { MembershipAnnouncer } from '../peer/membership-announcer.ts'
import type { PeerPool } from '../peer/peer-pool.ts'
import type { PeerServer } from '../peer/peer-server.ts'
import { PositionReporter } from '../peer/position-reporter.ts'
import type { Member } from '../peer/wire-messages.ts'
import type { ReplicaPositions } from '../position/replica-positions.ts'
import type { ReplicaReport } from '../position/replica-report.ts'

export interface MembershipParts {
  readonly clock: Clock
  readonly positions: ReplicaPositions
  self(): Member
}

export class Membership {
  readonly members: Members
  readonly reporter = new PositionReporter()
  readonly #parts: MembershipParts
  #link: PrimaryLink | undefined
  #announcer: MembershipAnnouncer | undefined

  constructor(parts: MembershipParts) {
    this.#parts = parts
    this.members = new Members(() => parts.self())
  }

  /** Wires the channels of this node. */
  attach(server: PeerServer, peers: PeerPool, leadership: Leadership): void {
    const { clock, positions } = this.#parts
    const { members, reporter } = this
    this.#link = new PrimaryLink({ leadership, peers, members, reporter })
    const announcer = new MembershipAnnouncer({ clock, server, members, positions })
    this.#announcer = announcer
    leadership.onChange((role) =>
      ['primary', 'handing-off'].includes(role.kind) ? announcer.start() : announcer.stop(),
    )
    this.#link.open()
  }

  joined(peer: Hello): void {
    this.#parts.positions.connected({ nodeId: peer.nodeId, name: peer.nodeName, region: peer.region })
    this.#announcer?.membersChanged()
  }

  reported(peer: Hello, reports: readonly ReplicaReport[]): void {
    this.#parts.positions.report(peer.nodeId, reports)
    this.#announcer?.positionsChanged()
  }

  left(peer: Hello): void {
    this.#parts.positions.disconnected(peer.nodeId)
    this.#announcer?.membersChanged()
  }

  close(): void {
    this.#link?.close()
    this.#announcer?.stop()
  }
}
