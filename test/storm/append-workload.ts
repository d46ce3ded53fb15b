/**
 * Clients that append 1, 2, 3 … to a stream of their own, each on one node, and go on only when the last one is acknowledged: so whoever
 * sees n of a stream sees all before it.
 *
 * A stream that lived when the fleet's history may have lost something (`LostHistories`) may have a gap until the reports are replayed;
 * its client begins a new one. So does one whose last append stayed unknown.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { AwaitLevel } from '@litefleet/core'
import type { Random } from '../support/random.ts'
import type { Fleet } from './fleet.ts'
import type { Gate } from './gate.ts'
import type { LostHistories } from './lost-histories.ts'
import type { StormClient } from './storm-client.ts'
import { append } from './storm-schema.ts'

const PAUSE_MS = 10
const ALONE_PAUSE_MS = 50
/** So that looking at one stream stays cheap. */
const LENGTH_MAX = 400

export class AppendWorkload {
  readonly #fleet: Fleet
  readonly #client: StormClient
  readonly #random: Random
  readonly #gate: Gate
  readonly #histories: LostHistories
  readonly #torn = new Set<number>()
  #streams = 0
  #isStopping = false
  #clients: readonly Promise<void>[] = []

  constructor(fleet: Fleet, client: StormClient, random: Random, gate: Gate, histories: LostHistories) {
    this.#fleet = fleet
    this.#client = client
    this.#random = random
    this.#gate = gate
    this.#histories = histories
    histories.onBoundary(() => {
      for (let stream = 1; stream <= this.#streams; stream++) this.#torn.add(stream)
    })
  }

  /** It may have a gap. */
  isTorn(stream: number): boolean {
    return this.#torn.has(stream) || (this.#fleet.lease !== undefined && this.#histories.isOpen)
  }

  start(clients: number): void {
    this.#clients = Array.from({ length: clients }, (_, client) => this.#serve(client % this.#fleet.size))
  }

  async stop(): Promise<void> {
    this.#isStopping = true
    await Promise.all(this.#clients)
  }

  async #serve(index: number): Promise<void> {
    let stream = ++this.#streams
    for (let n = 1; !this.#isStopping; ) {
      const write = await this.#gate.pass(() => this.#append(index, stream, n))
      if (write === undefined || write.fate === 'refused' || write.fate === 'abandoned') await sleep(ALONE_PAUSE_MS)
      else n++
      if (write?.fate === 'unknown' || this.#torn.has(stream) || n > LENGTH_MAX) {
        stream = ++this.#streams
        n = 1
      }
      await sleep(PAUSE_MS)
    }
  }

  #append(index: number, stream: number, n: number): ReturnType<StormClient['write']> {
    return this.#client.write({
      workload: 'append',
      identity: 'request-id',
      level: this.#random.pick<AwaitLevel>(
        this.#fleet.lease === undefined
          ? ['local', 'local', 'all', { replicas: 1 }]
          : ['local', 'majority', 'majority'],
      ),
      thenWhat: this.#random.pick(['retry', 'resolve']),
      statements: (id) => append(id, stream, n),
      node: () => {
        const process = this.#fleet.serving(index)
        return process === undefined ? undefined : { index, process }
      },
    })
  }
}
