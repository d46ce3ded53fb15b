/** Every write of a storm and what its caller was told. */
import type { AwaitLevel } from '@litefleet/core'
import type { LostHistories } from './lost-histories.ts'

export type Fate =
  /** Still under way. */
  | 'pending'
  /** At its level, or `late`: applied, and the level was not reached in time. */
  | 'applied'
  | 'late'
  /** At the first attempt: it never ran. */
  | 'refused'
  | 'unknown'
  /** `resolve` said that it never will be. */
  | 'abandoned'

export interface Write {
  readonly id: number
  readonly workload: 'bank' | 'append'
  readonly level: AwaitLevel
  readonly identity: 'request-id' | 'key' | 'none'
  readonly requestId: string | undefined
  readonly key: string | undefined
  /** The level names every other node, or a majority of those that elect: it is on whoever becomes the primary. */
  readonly isEverywhere: boolean
  fate: Fate
  /** The outcome of the first attempt was unknown; how it was found out. */
  recoveredBy: 'retry' | 'resolve' | undefined
  /** Attempts under the same id. */
  attempts: number
  /** TXIDs it was said to be in, in one history or another. */
  readonly txids: Set<bigint>
  /** Boundaries of histories before it was begun. */
  readonly boundariesBefore: number
}

export interface FateCount {
  readonly level: string
  readonly fates: Readonly<Record<string, number>>
}

export class WriteBook {
  readonly #writes: Write[] = []
  readonly #histories: LostHistories

  constructor(histories: LostHistories) {
    this.#histories = histories
  }

  get writes(): readonly Write[] {
    return this.#writes
  }

  /** Ids count from 1. */
  get(id: number): Write | undefined {
    return this.#writes[id - 1]
  }

  begin(facts: Pick<Write, 'workload' | 'level' | 'identity' | 'isEverywhere'>, newRequestId: () => string): Write {
    const id = this.#writes.length + 1
    const write: Write = {
      ...facts,
      id,
      requestId: facts.identity === 'request-id' ? newRequestId() : undefined,
      key: facts.identity === 'key' ? `storm-${id}` : undefined,
      fate: 'pending',
      recoveredBy: undefined,
      attempts: 0,
      txids: new Set(),
      boundariesBefore: this.#histories.boundaries,
    }
    this.#writes.push(write)
    return write
  }

  /** A history that said "not applied" may have been lost, or not the only one. */
  mayExistThoughAbandoned(write: Write): boolean {
    return this.#histories.boundaries > write.boundariesBefore
  }

  /** Acknowledged, at its level or late. */
  get acknowledged(): readonly Write[] {
    return this.#writes.filter(({ fate }) => fate === 'applied' || fate === 'late')
  }

  /** Acknowledged as durable on every node. */
  get everywhere(): readonly Write[] {
    return this.#writes.filter(({ fate, isEverywhere }) => fate === 'applied' && isEverywhere)
  }
}
