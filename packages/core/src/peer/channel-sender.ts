/**
 * The sending half of a channel, the same on both sides: turns what one turn of the event loop produced into one
 * message.
 *
 * A message costs gRPC some 40 µs, whatever is in it; an item in a message costs less than one. So items are collected
 * until the turn ends (`setImmediate`), and while the transport still holds `MESSAGES_UNDER_WAY` messages they are
 * collected further: the busier the connection, the larger the batches.
 *
 * Order: items leave in the order they were pushed; notices (positions, membership, pings) leave before items of the
 * same flush. A notice is a function: it is asked for its content when it leaves, so a slow connection carries the
 * newest state and never a backlog.
 * Promises: an item was handed to the transport exactly if `batch` returned it; `close()` returns those that never
 * were.
 * Bound: the owner limits what it pushes (`inFlightMax`, `inFlightBytesMax`); one notice per name.
 */
import type { PeerMessage } from './wire-messages.ts'

export interface ChannelSenderOptions<Item> {
  /** Hands one message to the transport; `done` is called when the transport took it out of its own buffer. */
  write(message: PeerMessage, done: () => void): void
  /** Makes the message of these items, at the moment they leave. Items that are no longer wanted may be left out. */
  batch(items: readonly Item[]): PeerMessage | undefined
}

/** One on its way into the socket while the next one is being filled. */
const MESSAGES_UNDER_WAY = 2
/** Keeps one message from occupying the receiving event loop for longer than some ms. */
const BATCH_ITEMS_MAX = 1_024
const BATCH_BYTES_MAX = 1 << 20

export class ChannelSender<Item> {
  readonly #options: ChannelSenderOptions<Item>
  readonly #notices = new Map<string, () => PeerMessage | undefined>()
  #items: { readonly item: Item; readonly bytes: number }[] = []
  #underWay = 0
  #scheduled = false
  #closed = false
  #drained: (() => void)[] = []

  constructor(options: ChannelSenderOptions<Item>) {
    this.#options = options
  }

  /** Adds an item to the next message. */
  push(item: Item, bytes: number): void {
    this.#items.push({ item, bytes })
    if (!this.#scheduled) this.#schedule()
  }

  /** Sends what `make` answers when its turn comes; a notice of the same name that has not left yet is replaced. */
  notice(name: string, make: () => PeerMessage | undefined): void {
    this.#notices.set(name, make)
    if (!this.#scheduled) this.#schedule()
  }

  /** Resolves when the transport has taken everything pushed so far, or the sender was closed. */
  drained(): Promise<void> {
    if (this.#isIdle) return Promise.resolve()
    return new Promise((resolve) => this.#drained.push(resolve))
  }

  /** Sends nothing more. Answers the items that were never handed to the transport. */
  close(): Item[] {
    this.#closed = true
    const left = this.#items.map(({ item }) => item)
    this.#items = []
    this.#notices.clear()
    this.#underWay = 0
    this.#releaseDrained()
    return left
  }

  get #isIdle(): boolean {
    return this.#closed || (this.#items.length === 0 && this.#notices.size === 0 && this.#underWay === 0)
  }

  #schedule(): void {
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.#flush()
    })
  }

  #flush(): void {
    while (!this.#closed && this.#underWay < MESSAGES_UNDER_WAY) {
      const message = this.#nextNotice() ?? this.#nextBatch()
      if (message === undefined) break
      this.#underWay++
      this.#options.write(message, () => {
        this.#underWay--
        // Called inside the transport's own write path: the next message waits for the end of the turn, as its items
        // do.
        if (this.#items.length + this.#notices.size > 0 && !this.#scheduled && !this.#closed) this.#schedule()
        if (this.#isIdle) this.#releaseDrained()
      })
    }
    if (this.#isIdle) this.#releaseDrained()
  }

  #nextNotice(): PeerMessage | undefined {
    for (const [name, make] of this.#notices) {
      this.#notices.delete(name)
      const message = make()
      if (message !== undefined) return message
    }
    return undefined
  }

  #nextBatch(): PeerMessage | undefined {
    while (this.#items.length > 0) {
      let count = 0
      let bytes = 0
      for (const { bytes: size } of this.#items) {
        if (count >= BATCH_ITEMS_MAX || (count > 0 && bytes + size > BATCH_BYTES_MAX)) break
        bytes += size
        count++
      }
      const taken = count === this.#items.length ? this.#items : this.#items.splice(0, count)
      if (taken === this.#items) this.#items = []
      const message = this.#options.batch(taken.map(({ item }) => item))
      if (message !== undefined) return message
    }
    return undefined
  }

  #releaseDrained(): void {
    for (const resolve of this.#drained.splice(0)) resolve()
  }
}
