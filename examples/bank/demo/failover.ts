/**
 * The primary of the demo is killed in the middle, and starts again a little later as one node among others.
 *
 * What callers saw of it: the longest time in which nobody got an answer to a write, and how long the slowest of them waited. Both are taken around
 * the kill, so that a slow moment of the machine before it does not count.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { BankProcess } from './bank-process.ts'

export interface FailoverReport {
  /** Name of the node that was killed, and of the one that took office after it. */
  readonly killed: string
  readonly successor: string
  /** No write was answered for so long. */
  readonly pauseMs: number
  /** The longest any write took that was under way then. */
  readonly slowestMs: number
}

/** For how long the fleet does without the node that was killed. */
const AWAY_MS = 2_000
const OFFICE_TIMEOUT_MS = 30_000
const LOOK_EVERY_MS = 5

/** When writes were answered. Bound: it remembers what the report needs, not all of them. */
export class WritePauses {
  #killedMs = Number.POSITIVE_INFINITY
  #lastMs = 0
  #pauseMs = 0
  #slowestMs = 0

  /** Monotonic, in ms. */
  killed(nowMs: number): void {
    this.#killedMs = nowMs
  }

  /** A write was answered that was sent at `sentMs`, however often it had to be sent. */
  answered(sentMs: number, nowMs: number): void {
    if (nowMs > this.#killedMs) {
      this.#pauseMs = Math.max(this.#pauseMs, nowMs - Math.max(this.#lastMs, this.#killedMs))
      this.#slowestMs = Math.max(this.#slowestMs, nowMs - sentMs)
    }
    this.#lastMs = nowMs
  }

  get pauseMs(): number {
    return this.#pauseMs
  }

  get slowestMs(): number {
    return this.#slowestMs
  }
}

export interface FailoverParts {
  readonly pauses: WritePauses
  /** Which node is in office now, as the nodes themselves say; `undefined`: none. */
  primary(): BankProcess | undefined
  /** It was. */
  killed(node: BankProcess): void
  /** Starts a node again that has ended. */
  restart(node: BankProcess): Promise<void>
}

/** Kills whoever is the primary; answers when another one is and the killed one is back. */
export async function failOver({ pauses, primary, killed: tell, restart }: FailoverParts): Promise<FailoverReport> {
  const killed = await inOffice(primary, undefined)
  pauses.killed(performance.now())
  killed.killNow()
  tell(killed)
  const successor = await inOffice(primary, killed)
  await sleep(AWAY_MS)
  await restart(killed)
  return { killed: killed.name, successor: successor.name, pauseMs: pauses.pauseMs, slowestMs: pauses.slowestMs }
}

async function inOffice(primary: () => BankProcess | undefined, except: BankProcess | undefined): Promise<BankProcess> {
  const deadlineMs = performance.now() + OFFICE_TIMEOUT_MS
  for (;;) {
    const found = primary()
    if (found !== undefined && found !== except) return found
    if (performance.now() > deadlineMs) throw new Error(`nobody took office within ${OFFICE_TIMEOUT_MS / 1000} s`)
    await sleep(LOOK_EVERY_MS)
  }
}
