/**
 * The writer queue of one database: first in, first out, bounded by count and bytes.
 *
 * Work is done by a drain that `setImmediate` schedules: callers of one turn of the event loop share a group, and between two
 * groups the loop reads its sockets, so that others can join the next one. A batch ends where a job stands alone, so that
 * such a job is a batch of its own.
 *
 * When another process holds the write lock (`busy`) nothing has run; the drain comes again after a short, growing wait, and
 * meanwhile every waiting job whose deadline passes fails with `DATABASE_BUSY`. Otherwise a job whose deadline passed before it
 * began fails with `DEADLINE_EXCEEDED`. A job that has begun is not interrupted.
 *
 * Relies on: `run` settles every job of its batch when it answers `ran`, and none when it answers `busy`.
 * Promises: every submitted job is settled: run, expired, or failed by `close` or `stop`. If `run` throws, the queue stops, and
 * the jobs of that batch are `WRITE_OUTCOME_UNKNOWN` as far as they are not settled.
 */
import type { Clock, Timer } from '../base/clock.ts'
import { ClusterError, type ClusterErrorOptions } from '../errors/cluster-error.ts'
import type { ErrorCode } from '../errors/error-table.ts'
import type { ResolvedWriteQueueOptions } from './queue-options.ts'
import type { WriteJob } from './write-job.ts'

export interface WriteQueueParts {
  readonly database: string
  readonly clock: Clock
  readonly options: ResolvedWriteQueueOptions
  run(batch: readonly WriteJob[]): 'ran' | 'busy'
  /** A job that shares its batch with nobody. Default: none. */
  standsAlone?: ((job: WriteJob) => boolean) | undefined
  /** Runs `drain` in the next turn of the event loop. Default: `setImmediate`. */
  schedule?: ((drain: () => void) => void) | undefined
}

const BUSY_WAIT_MIN_MS = 1
const BUSY_WAIT_MAX_MS = 50

export class WriteQueue {
  readonly #parts: WriteQueueParts
  /** Jobs from `#head` on wait; those before have left. */
  #jobs: (WriteJob | undefined)[] = []
  #head = 0
  #bytes = 0
  /** No waiting job's deadline is earlier. */
  #earliestDeadlineMs = Number.POSITIVE_INFINITY
  #isScheduled = false
  #busyWaitMs = 0
  #busyTimer: Timer | undefined
  #refusal: ClusterError | undefined

  constructor(parts: WriteQueueParts) {
    this.#parts = parts
  }

  /** Jobs waiting. */
  get length(): number {
    return this.#jobs.length - this.#head
  }

  /** Bytes of the jobs waiting. */
  get bytes(): number {
    return this.#bytes
  }

  /** Whether another process holds the write lock, as far as the last attempt knows. */
  get isBusy(): boolean {
    return this.#busyTimer !== undefined
  }

  /** Takes a job. Throws `WRITE_QUEUE_FULL`, and `CLOSED` or `DATABASE_STOPPED` after `close` or `stop`. */
  submit(job: WriteJob): void {
    if (this.#refusal !== undefined) throw this.#refusal
    const { queueJobsMax, queueBytesMax } = this.#parts.options
    const isFull = this.length >= queueJobsMax || (this.length > 0 && this.#bytes + job.bytes > queueBytesMax)
    if (isFull) throw this.#full()
    this.#jobs.push(job)
    this.#bytes += job.bytes
    if (job.deadlineMs < this.#earliestDeadlineMs) this.#earliestDeadlineMs = job.deadlineMs
    if (this.#busyTimer === undefined) this.#schedule()
  }

  /** Fails what waits with `CLOSED` and takes nothing more. Idempotent. */
  close(): void {
    this.refuse(this.#error('CLOSED', 'was closed before the write began'))
  }

  /** Fails what waits with `DATABASE_STOPPED`, because of `cause`, and takes nothing more. Idempotent. */
  stop(cause: unknown): void {
    const reason = cause instanceof Error ? cause.message : String(cause)
    this.refuse(this.#error('DATABASE_STOPPED', 'takes no writes on this node', { cause, details: { reason } }))
  }

  /** Fails what waits with this, which says that nothing ran, and takes nothing more. Idempotent: the first reason stays. */
  refuse(refusal: ClusterError): void {
    if (this.#refusal !== undefined) return
    this.#refusal = refusal
    this.#busyTimer?.cancel()
    this.#busyTimer = undefined
    for (const job of this.#take(this.length)) job?.settle({ kind: 'failed', error: refusal })
  }

  #schedule(): void {
    if (this.#isScheduled) return
    this.#isScheduled = true
    const { schedule = setImmediate } = this.#parts
    schedule(() => {
      this.#isScheduled = false
      this.#drain()
    })
  }

  /** One group. */
  #drain(): void {
    this.#expire()
    const batch = this.#nextBatch()
    if (batch.length === 0) {
      this.#busyWaitMs = 0
      return
    }
    // It leaves the queue before it runs: what `run` settles, or what closes the queue meanwhile, must not meet it here.
    this.#take(batch.length)
    let ran: 'ran' | 'busy'
    try {
      ran = this.#parts.run(batch)
    } catch (error) {
      this.#fail(batch, error)
      return
    }
    if (ran === 'busy') this.#waitForLock(batch)
    else {
      this.#busyWaitMs = 0
      if (this.length > 0) this.#schedule()
    }
  }

  #nextBatch(): readonly WriteJob[] {
    const { options, standsAlone } = this.#parts
    const batch: WriteJob[] = []
    let bytes = 0
    for (let index = this.#head; index < this.#jobs.length && batch.length < options.groupJobsMax; index++) {
      const job = this.#jobs[index] as WriteJob
      if (batch.length > 0 && bytes + job.bytes > options.groupBytesMax) break
      const isAlone = standsAlone?.(job) === true
      if (isAlone && batch.length > 0) break
      batch.push(job)
      bytes += job.bytes
      if (isAlone) break
    }
    return batch
  }

  #waitForLock(batch: readonly WriteJob[]): void {
    if (this.#refusal !== undefined) {
      for (const job of batch) job.settle({ kind: 'failed', error: this.#refusal })
      return
    }
    this.#jobs = [...batch, ...this.#jobs.slice(this.#head)]
    this.#head = 0
    for (const job of batch) this.#bytes += job.bytes
    this.#busyWaitMs = Math.min(Math.max(BUSY_WAIT_MIN_MS, this.#busyWaitMs * 2), BUSY_WAIT_MAX_MS)
    this.#busyTimer = this.#parts.clock.setTimer(this.#busyWaitMs, () => {
      this.#busyTimer = undefined
      this.#drain()
    })
  }

  /** Fails every waiting job whose deadline has passed; the order of the others stays. */
  #expire(): void {
    const nowMs = this.#parts.clock.monotonicMs()
    if (nowMs < this.#earliestDeadlineMs) return
    const waiting = this.#jobs.slice(this.#head) as WriteJob[]
    const expired = waiting.filter((job) => job.deadlineMs <= nowMs)
    this.#jobs = expired.length === 0 ? waiting : waiting.filter((job) => job.deadlineMs > nowMs)
    this.#head = 0
    this.#earliestDeadlineMs = this.#jobs.reduce(
      (earliest, job) => Math.min(earliest, job?.deadlineMs ?? earliest),
      Number.POSITIVE_INFINITY,
    )
    for (const job of expired) {
      this.#bytes -= job.bytes
      const error =
        this.#busyWaitMs > 0
          ? this.#error('DATABASE_BUSY', 'another process held the write lock until the deadline')
          : this.#error('DEADLINE_EXCEEDED', 'the deadline passed while the write waited in the queue')
      job.settle({ kind: 'failed', error })
    }
  }

  #fail(batch: readonly WriteJob[], cause: unknown): void {
    const error = this.#error('WRITE_OUTCOME_UNKNOWN', 'a write failed unexpectedly', {
      cause,
      details: { phase: 'commit' },
    })
    for (const job of batch) job.settle({ kind: 'failed', error })
    this.stop(cause)
  }

  /** Removes the first `count` jobs, and answers them. */
  #take(count: number): readonly (WriteJob | undefined)[] {
    const taken = this.#jobs.slice(this.#head, this.#head + count)
    this.#jobs.fill(undefined, this.#head, this.#head + count)
    for (const job of taken) this.#bytes -= job?.bytes ?? 0
    this.#head += count
    if (this.#head === this.#jobs.length || this.#head > 1_024) {
      this.#jobs = this.#jobs.slice(this.#head)
      this.#head = 0
    }
    return taken
  }

  #full(): ClusterError {
    const { queueJobsMax, queueBytesMax } = this.#parts.options
    return this.#error('WRITE_QUEUE_FULL', 'the writer queue is full', {
      hint: 'Retry after a short wait, or send fewer writes at once; a batch carries many statements in one write.',
      details: { jobs: this.length, bytes: this.#bytes, queueJobsMax, queueBytesMax },
    })
  }

  #error(code: ErrorCode, message: string, options?: ClusterErrorOptions): ClusterError {
    return new ClusterError(code, `database "${this.#parts.database}": ${message}`, options)
  }
}
