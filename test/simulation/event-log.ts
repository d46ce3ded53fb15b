/**
 * What happened, one line per event. Two runs of one seed have the same lines, and so the same hash.
 */
import { createHash } from 'node:crypto'
import type { WorldTime } from './world-time.ts'

const KEPT_LINES = 400

export class EventLog {
  readonly #time: WorldTime
  readonly #hash = createHash('sha256')
  readonly #print: ((line: string) => void) | undefined
  readonly #kept: string[] = []
  count = 0

  constructor(time: WorldTime, print: ((line: string) => void) | undefined) {
    this.#time = time
    this.#print = print
  }

  add(what: string): void {
    const line = `${this.#time.nowMs.toFixed(3).padStart(11)} ${what}`
    this.#hash.update(`${line}\n`)
    this.count++
    this.#print?.(line)
    this.#kept.push(line)
    if (this.#kept.length > KEPT_LINES) this.#kept.shift()
  }

  /** The last lines, oldest first. */
  tail(count: number): readonly string[] {
    return this.#kept.slice(-count)
  }

  get digest(): string {
    return this.#hash.copy().digest('hex').slice(0, 16)
  }
}
