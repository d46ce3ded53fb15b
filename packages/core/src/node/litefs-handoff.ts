/**
 * The office moves between Litefleet and LiteFS nodes, which know one way only: the primary sends the id of its lease as the last frame but one of a
 * stream, and the node that reads it goes on with that lease.
 *
 * Order of giving: no write is admitted, what was admitted is done → the LiteFS node has been sent all of it → everybody is told to leave the lease alone → lease
 * renewed → office left → HANDOFF written, as the stream ends → whoever is asked next follows it.
 * Order of taking: HANDOFF read → the giver writes no more, and has nothing that this node lacks → lease taken over, under a new epoch → as any candidate.
 * Else the lease is ended, and the giver may have it again.
 * Relies on: a lease that LiteFS can hold (Consul).
 * Promises: until the office is left a failure leaves it here. A lease that nobody goes on with is ended, so that nobody waits for its time to run out.
 */
import type { Clock } from '../base/clock.ts'
import type { DatabaseFacts } from '../engine/engine.ts'
import type { LeaseOffer, Leadership } from '../leadership/leadership.ts'
import type { PrimaryInfo, Term } from '../leadership/node-role.ts'
import type { Lease } from '../lease/lease.ts'
import type { OfficeReply } from '../peer/office-client.ts'
import type { Epoch } from '../position/epoch.ts'
import { formatPosition, type Position, samePosition, ZERO_POSITION } from '../position/position.ts'
import type { LiteFsClient } from '../stream/litefs-client.ts'
import type { StreamServer } from '../stream/stream-server.ts'
import { HOLD_MS, LOOK_EVERY_MS, notHandedOff as failed } from './handoff-rules.ts'

export interface LiteFsHandoffParts {
  readonly clock: Clock
  readonly lease: Lease
  readonly leadership: Leadership
  readonly nodeName: string
  readonly liteFs: Pick<LiteFsClient, 'askForOffice' | 'state'>
  readonly streams: Pick<StreamServer, 'hasSentAll' | 'handOver'>
  databases(): readonly DatabaseFacts[]
  /** What was admitted is committed, and whoever waits for replicas is answered. */
  drained(deadlineMs: number): Promise<void>
  /** Everybody is told who follows. */
  tellAll(successor: string, epoch: Epoch): Promise<unknown>
  /** A handoff that a LiteFS primary began ended otherwise. */
  warn(error: unknown): void
}

/** How long what a LiteFS primary sent last may be on its way, when it hands its office over. */
const LAST_RECORDS_MS = 2_000
const LITEFS_LOOK_EVERY_MS = 20
const LITEFS_ANSWER_MS = 1_000
/** A LiteFS node looks for a free lease every second. */
const DECLINED_MS = 5_000

export class LiteFsHandoff {
  readonly #parts: LiteFsHandoffParts
  /** Why the last lease was not taken that a LiteFS primary offered; `undefined`: it was, or is being looked at. */
  #declined: unknown

  constructor(parts: LiteFsHandoffParts) {
    this.#parts = parts
  }

  /** A LiteFS primary gives its lease to this node. */
  offered(offer: LeaseOffer): void {
    void this.#take(offer).catch((error: unknown) => {
      this.#declined = error
      this.#parts.warn(error)
    })
  }

  async #take(offer: LeaseOffer): Promise<void> {
    const { lease, leadership } = this.#parts
    if (lease.takeOver === undefined || !lease.isCandidate) {
      await lease.decline?.(offer.leaseId)
      throw failed(`a LiteFS primary gave its lease to this node, which can be no candidate`)
    }
    const why = await this.#whyNotYet(offer.from)
    if (why === undefined) return leadership.takeOver(offer)
    leadership.standBack(DECLINED_MS)
    await lease.decline?.(offer.leaseId)
    throw failed(`a LiteFS primary gave its lease to this node, which ended it: ${why}`)
  }

  /** What this node lacks of the office of a LiteFS primary that has left it; `undefined`: nothing. */
  async #whyNotYet(url: string): Promise<string | undefined> {
    const { clock, liteFs, databases } = this.#parts
    const deadlineMs = clock.monotonicMs() + LAST_RECORDS_MS
    for (;;) {
      const { isPrimary, positions } = await liteFs
        .state(url, LITEFS_ANSWER_MS)
        .catch(() => ({ isPrimary: true, positions: new Map<string, Position>() }))
      const here = new Map<string, Position>(databases().map(({ name, position }) => [name, position]))
      const missing = [...positions].filter(
        ([name, position]) => !samePosition(here.get(name) ?? ZERO_POSITION, position),
      )
      if (!isPrimary && missing.length === 0) return undefined
      if (clock.monotonicMs() >= deadlineMs) {
        if (isPrimary) return 'it did not say in time that it writes no more'
        return `it has ${missing.map(([name, position]) => `${name} at ${formatPosition(position)}`).join(', ')}`
      }
      await this.#sleep(LITEFS_LOOK_EVERY_MS)
    }
  }

  /** Asks a primary that is a LiteFS node: it hands its office to whoever asks, and to nobody else. Throws HANDOFF_FAILED. */
  async ask(primary: PrimaryInfo, to: string | undefined, deadlineMs: number): Promise<OfficeReply> {
    const { clock, lease, leadership, liteFs, nodeName } = this.#parts
    if (to !== nodeName) {
      throw failed(
        `the primary "${primary.name}" is a LiteFS node, which hands its office only to the node that asks`,
        'Use promote on the node that is to be the primary.',
      )
    }
    if (lease.takeOver === undefined) throw failed('a lease of this kind is not handed over by a LiteFS node')
    this.#declined = undefined
    await liteFs.askForOffice(primary.advertiseUrl, deadlineMs - clock.monotonicMs())
    while (leadership.primary()?.isSelf !== true) {
      if (this.#declined !== undefined) throw this.#declined
      if (clock.monotonicMs() >= deadlineMs)
        throw failed(`node "${nodeName}" was given the lease, and is not in office yet`)
      await this.#sleep(LOOK_EVERY_MS)
    }
    return { primary: nodeName }
  }

  /** Whether a LiteFS replica of this id is connected. */
  knows(nodeId: string): boolean {
    return this.#parts.streams.hasSentAll(nodeId) !== undefined
  }

  /**
   * Gives the office of this node to the LiteFS replica of this id.
   * @throws NOT_PRIMARY, HANDOFF_FAILED
   */
  async give(nodeId: string, deadlineMs: number): Promise<PrimaryInfo> {
    const { leadership, lease, streams, drained, tellAll } = this.#parts
    leadership.requirePrimary()
    let given: string | undefined
    const prepare = async ({ lease: held, epoch }: Term): Promise<void> => {
      await drained(deadlineMs)
      await this.#untilSent(nodeId, deadlineMs)
      await tellAll(nodeId, epoch)
      const handOver = (leaseId: string): boolean => {
        given = leaseId
        return streams.hasSentAll(nodeId) === true && streams.handOver(nodeId, leaseId)
      }
      if (held.handOver === undefined) throw failed('no LiteFS node can go on with a lease of this kind')
      if (!(await held.handOver(handOver)))
        throw failed(`the LiteFS node ${nodeId} left, or something was committed meanwhile`)
    }
    try {
      return await leadership.handOff(nodeId, prepare, HOLD_MS)
    } catch (error) {
      // Nobody has the office, and the lease would be nobody's until its time ends.
      if (given !== undefined && !leadership.isInOffice) await lease.decline?.(given).catch(() => undefined)
      throw error
    }
  }

  async #untilSent(nodeId: string, deadlineMs: number): Promise<void> {
    const { clock, streams } = this.#parts
    for (;;) {
      const hasAll = streams.hasSentAll(nodeId)
      if (hasAll === true) return
      if (hasAll === undefined) throw failed(`no LiteFS node ${nodeId} is connected`)
      if (clock.monotonicMs() >= deadlineMs) throw failed(`the LiteFS node ${nodeId} was not sent everything in time`)
      await this.#sleep(LOOK_EVERY_MS)
    }
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.#parts.clock.setTimer(ms, resolve))
  }
}
