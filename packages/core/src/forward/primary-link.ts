/**
 * A replica's tie to its primary: a channel that is always open, position reports on it, the list of members from it.
 *
 * Promises: while this node follows a primary with a gRPC address, the channel to it is dialled and kept; each time it
 * opens, all positions are reported anew. When it breaks, leadership is told to look again: the primary may have moved.
 */
import type { Leadership } from '../leadership/leadership.ts'
import type { Members } from '../peer/members.ts'
import type { PeerPool } from '../peer/peer-pool.ts'
import type { PositionReporter } from '../peer/position-reporter.ts'

export interface PrimaryLinkParts {
  readonly leadership: Pick<Leadership, 'role' | 'refresh'> & { onChange(listener: () => void): () => void }
  readonly peers: PeerPool
  readonly members: Members
  readonly reporter: PositionReporter
}

export class PrimaryLink {
  readonly #parts: PrimaryLinkParts
  #stopListening: readonly (() => void)[] = []
  #address: string | undefined

  constructor(parts: PrimaryLinkParts) {
    this.#parts = parts
  }

  open(): void {
    const { leadership, members, peers, reporter } = this.#parts
    this.#stopListening = [
      leadership.onChange(() => this.#follow()),
      peers.listen({
        connected: (client) => client.address === this.#address && reporter.attach(client),
        disconnected: (client) => {
          if (client.address !== this.#address) return
          reporter.detach()
          leadership.refresh()
        },
        membership: (client, list) => client.address === this.#address && members.replace(list),
      }),
    ]
    this.#follow()
  }

  close(): void {
    for (const stop of this.#stopListening) stop()
    this.#stopListening = []
    this.#parts.reporter.detach()
  }

  #follow(): void {
    const { leadership, peers, reporter } = this.#parts
    const address = leadership.role.kind === 'replica' ? leadership.role.primary.grpcAddress : undefined
    if (address === this.#address) return
    this.#address = address
    reporter.detach()
    const client = leadership.role.kind === 'closed' ? undefined : peers.pin(address)
    if (client?.state.kind === 'connected') reporter.attach(client)
  }
}
