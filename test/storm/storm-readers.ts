/**
 * One reading process (storm-reader.ts) for each node of a storm, and what to make of what they see.
 *
 * A reader cannot know when its node gave up a history, and sees an older version then: allowed once for each time.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import type { AppendWorkload } from './append-workload.ts'
import { within } from './bounded.ts'
import type { Fleet } from './fleet.ts'
import type { ReaderNews } from './storm-reader.ts'

const PROGRAM = path.join(import.meta.dirname, 'storm-reader.ts')
const STOP_MS = 20_000
/** After a move all streams are torn; a gap may be told before. */
const GAP_PATIENCE_MS = 1_000

interface Reader {
  readonly child: ChildProcess
  readonly back: string[]
}

export class StormReaders {
  readonly #fleet: Fleet
  readonly #appends: AppendWorkload
  readonly #readers: readonly Reader[]
  #reads = 0
  #isStopping = false

  private constructor(fleet: Fleet, appends: AppendWorkload) {
    this.#fleet = fleet
    this.#appends = appends
    this.#readers = fleet.indexes.map((index) => this.#start(index))
  }

  static start(fleet: Fleet, appends: AppendWorkload): StormReaders {
    return new StormReaders(fleet, appends)
  }

  /** Read transactions of all of them, known after `stop`. */
  get reads(): number {
    return this.#reads
  }

  async stop(): Promise<void> {
    this.#isStopping = true
    for (const [index, { child, back }] of this.#readers.entries()) {
      const exit = once(child, 'exit')
      if (child.exitCode === null && child.signalCode === null) {
        child.send('stop', () => undefined)
        await within(STOP_MS, 'the end of a reader', exit).catch(() => child.kill('SIGKILL'))
      }
      const allowed = this.#fleet.divergedOf(index)
      if (back.length > allowed)
        this.#fleet.log.finding(
          `a reader of node ${index} went back ${back.length} times, the node gave up its history ${allowed} times: ${back.slice(0, 10).join(', ')}`,
        )
    }
  }

  /** Ends them at once. */
  kill(): void {
    this.#isStopping = true
    for (const { child } of this.#readers) child.kill('SIGKILL')
  }

  #start(index: number): Reader {
    const back: string[] = []
    const child = fork(PROGRAM, [this.#fleet.cluster.fileOf(index)], {
      execArgv: [],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    })
    child.on('message', (news: ReaderNews) => this.#hear(index, back, news))
    child.once('exit', (code, signal) => {
      if (!this.#isStopping) this.#fleet.log.finding(`the reader of node ${index} ended: ${code} ${signal}`)
    })
    return { child, back }
  }

  #hear(index: number, back: string[], news: ReaderNews): void {
    const { log } = this.#fleet
    switch (news.kind) {
      case 'problem':
        log.finding(`a reader of node ${index}: ${news.text}`)
        break
      case 'back':
        back.push(log.note(`a reader of node ${index} went back from version ${news.from} to ${news.to}`))
        break
      case 'gap': {
        const { stream, count, last } = news
        if (this.#appends.isTorn(stream)) break
        const text = `a reader of node ${index}: stream ${stream} has a gap: ${count} rows up to ${last}`
        setTimeout(() => {
          if (!this.#appends.isTorn(stream)) log.finding(text)
        }, GAP_PATIENCE_MS)
        break
      }
      default:
        this.#reads += news.reads
    }
  }
}
