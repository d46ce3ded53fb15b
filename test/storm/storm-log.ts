/**
 * What a storm says: one line per event, and what it found wrong. Lines go to `print` and, with the warnings of the nodes, to the
 * file `storm.log` of the run.
 *
 * Bound: `FINDINGS_MAX` findings are kept as text; all are counted.
 */
import { appendFileSync } from 'node:fs'
import path from 'node:path'

const FINDINGS_MAX = 100

export class StormLog {
  readonly #print: (line: string) => void
  readonly #file: string
  readonly #startMs = performance.now()
  readonly findings: string[] = []
  #found = 0

  constructor(directory: string, print: (line: string) => void) {
    this.#print = print
    this.#file = path.join(directory, 'storm.log')
  }

  get elapsedMs(): number {
    return performance.now() - this.#startMs
  }

  /** Findings, those that are not kept included. */
  get found(): number {
    return this.#found
  }

  line(text: string): void {
    this.#print(this.note(text))
  }

  /** To the file only. Answers the line. */
  note(text: string): string {
    const line = `${(this.elapsedMs / 1000).toFixed(3).padStart(9)}  ${text}`
    appendFileSync(this.#file, `${line}\n`)
    return line
  }

  /** A promise was broken. */
  finding(text: string): void {
    this.#found++
    if (this.findings.length >= FINDINGS_MAX || this.findings.includes(text)) return
    this.findings.push(text)
    this.line(`FOUND  ${text}`)
  }
}
