/** Clients that move money on whichever node serves, at every await level, with and without ids of their own. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { AwaitLevel } from '@litefleet/core'
import type { Random } from '../support/random.ts'
import type { Fleet } from './fleet.ts'
import type { Gate } from './gate.ts'
import type { StormClient } from './storm-client.ts'
import { bankTransaction } from './storm-schema.ts'

const PAUSE_MS = 10
const ALONE_PAUSE_MS = 50

export class BankWorkload {
  readonly #fleet: Fleet
  readonly #client: StormClient
  readonly #random: Random
  readonly #gate: Gate
  #isStopping = false
  #clients: readonly Promise<void>[] = []

  constructor(fleet: Fleet, client: StormClient, random: Random, gate: Gate) {
    this.#fleet = fleet
    this.#client = client
    this.#random = random
    this.#gate = gate
  }

  start(clients: number): void {
    this.#clients = Array.from({ length: clients }, (_, client) => this.#serve(client))
  }

  async stop(): Promise<void> {
    this.#isStopping = true
    await Promise.all(this.#clients)
  }

  async #serve(client: number): Promise<void> {
    while (!this.#isStopping) {
      const write = await this.#gate.pass(() =>
        this.#client.write({
          workload: 'bank',
          identity: this.#random.pick(['request-id', 'request-id', 'key', 'none']),
          level: levelFor(this.#random, this.#fleet.size, this.#fleet.lease !== undefined),
          thenWhat: this.#random.pick(['leave', 'retry', 'retry', 'resolve']),
          statements: (id) => bankTransaction(id, client, this.#random),
          node: () => this.#anyNode(),
        }),
      )
      await sleep(write?.fate === 'applied' ? PAUSE_MS : ALONE_PAUSE_MS)
    }
  }

  #anyNode(): ReturnType<Parameters<StormClient['write']>[0]['node']> {
    const index = this.#random.below(this.#fleet.size)
    const process = this.#fleet.serving(index)
    return process === undefined ? undefined : { index, process }
  }
}

/** @param hasVoters then a majority can be asked for */
export function levelFor(random: Random, nodes: number, hasVoters = false): AwaitLevel {
  const roll = random.below(100)
  if (hasVoters && roll % 5 < 2) return 'majority'
  if (roll < 45) return 'local'
  if (roll < 60) return 'none'
  if (roll < 72) return 'all'
  if (roll < 86) return { replicas: 1 }
  return { replicas: nodes - 1 }
}
