/**
 * The lease without an election: the configuration says which node is the primary, for ever.
 *
 * On the primary it is held from the first `acquire` to the end of the process, a new epoch each time. Nothing checks
 * that only one node is configured so; two nodes that are write two histories, which epochs and checksums tell apart
 * but nothing can merge. On the other nodes the primary is known by the URL of its HTTP listener. Its name and gRPC
 * address are not configured but asked for (`probe`), so a restart on other ports needs no change anywhere: asked at
 * the start until it answers, then every `recheckMs`, and at once after `refresh()`. A primary that does not answer
 * stays the primary; only what it answers can change.
 */
import type { Clock } from '../base/clock.ts'
import { RunLoop } from '../base/run-loop.ts'
import { NO_EPOCH } from '../position/epoch.ts'
import { type LeaseHolder, sameHolder } from './lease-holder.ts'
import type { AcquireOutcome, AcquireRequest, EpochCounter, HeldLease, Lease, LeaseObservation } from './lease.ts'

export type StaticPrimary = true | { readonly url: string }

export interface StaticLeaseParts {
  /** `true`: this node. */
  readonly primary: StaticPrimary
  readonly clock: Clock
  readonly epochs: EpochCounter
  /** Asks the node at the URL who it is (`GET /info`). Rejects when it does not answer or is not the primary. */
  probe(url: string, signal: AbortSignal): Promise<LeaseHolder>
  random(): number
  /** Default: 5,000. */
  readonly recheckMs?: number | undefined
}

export function createStaticLease(parts: StaticLeaseParts): Lease {
  return parts.primary === true
    ? new StaticPrimaryLease(parts.epochs)
    : new StaticReplicaLease(parts, parts.primary.url)
}

class StaticPrimaryLease implements Lease {
  readonly kind = 'static'
  readonly isCandidate = true
  readonly ttlMs = 0
  readonly #epochs: EpochCounter
  readonly #listeners = new Set<(holder: LeaseHolder | undefined) => void>()
  #holder: LeaseHolder | undefined
  #held: AbortController | undefined

  constructor(epochs: EpochCounter) {
    this.#epochs = epochs
  }

  async acquire({ self, epochAbove }: AcquireRequest): Promise<AcquireOutcome> {
    if (this.#held !== undefined) return { kind: 'taken', holder: this.#holder }
    const held = new AbortController()
    this.#held = held
    try {
      const epoch = await this.#epochs.next(epochAbove)
      this.#tell(self)
      const release = (): Promise<void> => {
        if (!held.signal.aborted) held.abort('released')
        if (this.#held === held) {
          this.#held = undefined
          this.#tell(undefined)
        }
        return Promise.resolve()
      }
      const lease: HeldLease = {
        epoch,
        lastOffice: NO_EPOCH, // nobody else is ever in office
        lost: held.signal,
        isHeld: () => !held.signal.aborted,
        recordOffice: () => Promise.resolve(),
        release,
      }
      return { kind: 'held', lease }
    } catch (error) {
      this.#held = undefined
      throw error
    }
  }

  observe(listener: (holder: LeaseHolder | undefined) => void): LeaseObservation {
    this.#listeners.add(listener)
    listener(this.#holder)
    return { refresh: () => undefined, stop: () => void this.#listeners.delete(listener) }
  }

  close(): Promise<void> {
    this.#held?.abort('closed')
    this.#held = undefined
    this.#listeners.clear()
    return Promise.resolve()
  }

  #tell(holder: LeaseHolder | undefined): void {
    this.#holder = holder
    for (const listener of this.#listeners) listener(holder)
  }
}

const RECHECK_MS = 5_000
const RETRY_MS_MIN = 50
const RETRY_MS_MAX = 500

class StaticReplicaLease implements Lease {
  readonly kind = 'static'
  readonly isCandidate = false
  readonly ttlMs = 0
  readonly #parts: StaticLeaseParts
  readonly #url: string
  readonly #observations = new Set<StaticObservation>()

  constructor(parts: StaticLeaseParts, url: string) {
    this.#parts = parts
    this.#url = url
  }

  acquire(): Promise<AcquireOutcome> {
    return Promise.resolve({ kind: 'taken', holder: undefined })
  }

  observe(listener: (holder: LeaseHolder | undefined) => void): LeaseObservation {
    const observation = new StaticObservation(this.#parts, this.#url, listener)
    this.#observations.add(observation)
    return {
      refresh: () => observation.refresh(),
      stop: () => {
        this.#observations.delete(observation)
        void observation.stop()
      },
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#observations].map((observation) => observation.stop()))
    this.#observations.clear()
  }
}

class StaticObservation {
  readonly #loop: RunLoop
  #holder: LeaseHolder | undefined
  #endPause: (() => void) | undefined

  constructor(parts: StaticLeaseParts, url: string, listener: (holder: LeaseHolder | undefined) => void) {
    this.#loop = new RunLoop({
      clock: parts.clock,
      minDelayMs: RETRY_MS_MIN,
      maxDelayMs: RETRY_MS_MAX,
      random: () => parts.random(),
      task: async (signal, progress) => {
        const holder = await parts.probe(url, signal)
        if (signal.aborted) return
        progress()
        if (!sameHolder(holder, this.#holder)) {
          this.#holder = holder
          listener(holder)
        }
        await this.#pause(parts.clock, parts.recheckMs ?? RECHECK_MS)
      },
    })
    listener(undefined)
    this.#loop.start()
  }

  /** Ends the pause between two probes. The short wait after a failed one stays: callers may ask often. */
  refresh(): void {
    this.#endPause?.()
  }

  async stop(): Promise<void> {
    const stopped = this.#loop.stop()
    this.#endPause?.()
    await stopped
  }

  #pause(clock: Clock, delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = clock.setTimer(delayMs, resolve)
      this.#endPause = () => {
        timer.cancel()
        this.#endPause = undefined
        resolve()
      }
    })
  }
}
