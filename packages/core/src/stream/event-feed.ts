/**
 * Subscribers of `GET /events`. Each has at most `EVENTS_MAX` lines waiting, as in LiteFS; one that reads too slowly for that is
 * cut off and has to subscribe again. There is no replay and no heartbeat.
 */
import type { Writable } from 'node:stream'
import { formatNodeEvent, type NodeEvent } from './node-event.ts'

/** Lines that may wait for one subscriber. */
export const EVENTS_MAX = 1024

export class EventFeed {
  readonly #subscribers = new Set<EventSubscriber>()

  get subscriberCount(): number {
    return this.#subscribers.size
  }

  /**
   * @param first the line every subscriber begins with
   * @param reset breaks the answer off
   */
  subscribe(body: Writable, first: string, reset: () => void): void {
    const subscriber = new EventSubscriber(body, reset)
    this.#subscribers.add(subscriber)
    body.once('close', () => this.#subscribers.delete(subscriber))
    subscriber.send(first)
  }

  publish(event: NodeEvent): void {
    if (this.#subscribers.size === 0) return
    const line = formatNodeEvent(event)
    for (const subscriber of this.#subscribers) {
      if (!subscriber.send(line)) this.#subscribers.delete(subscriber)
    }
  }

  /** Ends every subscription in good order. */
  close(): void {
    for (const subscriber of this.#subscribers) subscriber.end()
    this.#subscribers.clear()
  }
}

class EventSubscriber {
  readonly #body: Writable
  readonly #reset: () => void
  #waiting = 0

  constructor(body: Writable, reset: () => void) {
    this.#body = body
    this.#reset = reset
    body.on('error', () => undefined) // 'close' follows
  }

  /** False when the subscriber was cut off. */
  send(line: string): boolean {
    if (this.#waiting >= EVENTS_MAX) {
      this.#reset()
      return false
    }
    this.#waiting++
    this.#body.write(line, () => {
      this.#waiting--
    })
    return true
  }

  end(): void {
    this.#body.end()
  }
}
