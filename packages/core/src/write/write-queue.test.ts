import { expect, test } from 'vitest'
import type { Clock } from '../base/clock.ts'
import { isClusterError } from '../errors/cluster-error.ts'
import { resolveWriteQueueOptions, type WriteQueueOptions } from './queue-options.ts'
import type { JobOutcome, WriteJob } from './write-job.ts'
import { WriteQueue } from './write-queue.ts'

/** A clock and an event loop that move only when told. */
class Harness {
  nowMs = 0
  readonly batches: string[][] = []
  readonly ended = new Map<string, string>()
  /** What the next runs answer. Afterwards: `ran`. */
  answers: ('busy' | Error)[] = []
  onRun: (() => void) | undefined
  readonly queue: WriteQueue
  #turns: (() => void)[] = []
  #timers: { readonly atMs: number; readonly action: () => void }[] = []

  constructor(options: WriteQueueOptions = {}) {
    const clock: Clock = {
      nowMs: () => this.nowMs,
      monotonicMs: () => this.nowMs,
      setTimer: (delayMs, action) => {
        const timer = { atMs: this.nowMs + delayMs, action }
        this.#timers.push(timer)
        return { cancel: () => void (this.#timers = this.#timers.filter((other) => other !== timer)) }
      },
    }
    this.queue = new WriteQueue({
      database: 'test.db',
      clock,
      options: resolveWriteQueueOptions(options),
      schedule: (drain) => void this.#turns.push(drain),
      standsAlone: (job) => nameOf(job).startsWith('vacuum'),
      run: (batch) => {
        this.batches.push(batch.map(nameOf))
        const answer = this.answers.shift()
        if (answer === 'busy') return 'busy'
        this.onRun?.()
        if (answer !== undefined) throw answer
        for (const job of batch) job.settle(DONE)
        return 'ran'
      },
    })
  }

  get timers(): number {
    return this.#timers.length
  }

  submit(name: string, options: { readonly bytes?: number; readonly deadlineMs?: number } = {}): void {
    const job: WriteJob = {
      kind: 'run',
      operation: { kind: 'procedure', name, input: undefined },
      requestId: undefined,
      idempotencyKey: undefined,
      deadlineMs: options.deadlineMs ?? Number.POSITIVE_INFINITY,
      bytes: options.bytes ?? 1,
      settle: (outcome: JobOutcome) => {
        if (!this.ended.has(name)) this.ended.set(name, endOf(outcome))
      },
    }
    this.queue.submit(job)
  }

  /** One turn of the event loop. */
  turn(): void {
    for (const action of this.#turns.splice(0)) action()
  }

  turns(): void {
    while (this.#turns.length > 0) this.turn()
  }

  passMs(ms: number): void {
    this.nowMs += ms
    const due = this.#timers.filter((timer) => timer.atMs <= this.nowMs)
    this.#timers = this.#timers.filter((timer) => timer.atMs > this.nowMs)
    for (const timer of due) timer.action()
  }
}

const DONE: JobOutcome = { kind: 'done', result: { kind: 'procedure', value: null }, replayed: false }
const nameOf = (job: WriteJob): string =>
  job.kind === 'run' && job.operation.kind === 'procedure' ? job.operation.name : ''
const endOf = (outcome: JobOutcome): string =>
  outcome.kind !== 'failed' ? outcome.kind : isClusterError(outcome.error) ? outcome.error.code : String(outcome.error)

function thrownBy(work: () => void): string {
  try {
    work()
  } catch (error) {
    return isClusterError(error) ? error.code : String(error)
  }
  return 'nothing'
}

test('callers of one turn share a batch, in order, and nothing runs in their own turn', () => {
  const h = new Harness()
  for (const name of ['a', 'b', 'c']) h.submit(name)
  expect(h.batches).toEqual([])
  h.turn()
  expect(h.batches).toEqual([['a', 'b', 'c']])
  expect([h.queue.length, h.queue.bytes]).toEqual([0, 0])
})

test('a batch is bounded by count and bytes; the event loop turns between two batches', () => {
  const h = new Harness({ groupJobsMax: 3, groupBytesMax: 100 })
  for (const [name, bytes] of [
    ['a', 1],
    ['b', 1],
    ['c', 1],
    ['d', 60],
    ['e', 60],
    ['f', 500],
    ['g', 1],
  ] as const)
    h.submit(name, { bytes })
  h.turn()
  expect(h.batches).toEqual([['a', 'b', 'c']])
  h.submit('h')
  h.turns()
  expect(h.batches.slice(1)).toEqual([['d'], ['e'], ['f'], ['g', 'h']])
})

test('a job that stands alone has a batch of its own, in its place in the order', () => {
  const h = new Harness()
  for (const name of ['a', 'vacuum 1', 'vacuum 2', 'b', 'c']) h.submit(name)
  h.turns()
  expect(h.batches).toEqual([['a'], ['vacuum 1'], ['vacuum 2'], ['b', 'c']])
})

test('a full queue refuses, by count and by bytes; a single large write is taken when the queue is empty', () => {
  const h = new Harness({ queueJobsMax: 2, queueBytesMax: 100 })
  h.submit('huge', { bytes: 1_000 })
  expect(thrownBy(() => h.submit('b'))).toBe('WRITE_QUEUE_FULL')
  h.turns()
  h.submit('c', { bytes: 60 })
  expect(thrownBy(() => h.submit('d', { bytes: 60 }))).toBe('WRITE_QUEUE_FULL')
  h.submit('e', { bytes: 40 })
  expect(thrownBy(() => h.submit('f', { bytes: 0 }))).toBe('WRITE_QUEUE_FULL')
  h.turns()
  expect([...h.ended]).toEqual([
    ['huge', 'done'],
    ['c', 'done'],
    ['e', 'done'],
  ])
  expect(h.queue.bytes).toBe(0)
})

test('a job whose deadline passed before it began fails without running', () => {
  const h = new Harness()
  h.submit('late', { deadlineMs: 10 })
  h.submit('b')
  h.passMs(10)
  h.turns()
  expect(h.batches).toEqual([['b']])
  expect(h.ended.get('late')).toBe('DEADLINE_EXCEEDED')
})

test('busy: the batch keeps its place and is tried again after growing waits', () => {
  const h = new Harness()
  h.answers = ['busy', 'busy', 'busy', 'busy', 'busy', 'busy', 'busy', 'busy']
  h.submit('a')
  h.turn()
  expect(h.queue.isBusy).toBe(true)
  h.submit('b')
  h.turns()
  expect(h.batches).toEqual([['a']]) // a new job does not shorten the wait
  const waits: number[] = []
  for (let waitedMs = 0; h.timers > 0 && waits.length < 20; waitedMs++) {
    const tries = h.batches.length
    h.passMs(1)
    if (h.batches.length > tries) {
      waits.push(waitedMs + 1)
      waitedMs = -1
    }
  }
  expect(waits).toEqual([1, 2, 4, 8, 16, 32, 50, 50])
  expect(h.batches.at(-1)).toEqual(['a', 'b'])
  expect([...h.ended]).toEqual([
    ['a', 'done'],
    ['b', 'done'],
  ])
  expect([h.queue.length, h.queue.bytes, h.queue.isBusy]).toEqual([0, 0, false])
})

test('busy: every waiting job whose deadline passes fails, wherever it stands in the queue', () => {
  const h = new Harness({ groupJobsMax: 1 })
  h.answers = Array.from({ length: 5 }, () => 'busy' as const)
  h.submit('a')
  h.submit('b', { deadlineMs: 6 })
  h.submit('c')
  h.turn()
  for (let i = 0; i < 10; i++) h.passMs(1)
  expect(h.ended.get('b')).toBe('DATABASE_BUSY')
  expect(h.queue.length).toBe(2)
  for (let i = 0; i < 60; i++) h.passMs(1)
  h.turns()
  expect([...h.ended]).toEqual([
    ['b', 'DATABASE_BUSY'],
    ['a', 'done'],
    ['c', 'done'],
  ])
  h.submit('d', { deadlineMs: h.nowMs - 1 })
  h.turns()
  expect(h.ended.get('d')).toBe('DEADLINE_EXCEEDED')
})

test('close() fails what waits and refuses what comes', () => {
  const h = new Harness()
  h.submit('a')
  h.submit('b')
  h.queue.close()
  h.queue.close()
  h.turns()
  expect(h.batches).toEqual([])
  expect([...h.ended]).toEqual([
    ['a', 'CLOSED'],
    ['b', 'CLOSED'],
  ])
  expect(thrownBy(() => h.submit('c'))).toBe('CLOSED')
  expect([h.queue.length, h.queue.bytes]).toEqual([0, 0])
})

test('close() during a wait for the lock ends the wait', () => {
  const h = new Harness()
  h.answers = ['busy']
  h.submit('a')
  h.turn()
  h.queue.close()
  expect(h.timers).toBe(0)
  expect(h.ended.get('a')).toBe('CLOSED')
})

test('stop() from within a run fails what waits, but not the batch that is running', () => {
  const h = new Harness({ groupJobsMax: 1 })
  h.onRun = () => h.queue.stop(new Error('the log is full'))
  h.submit('a')
  h.submit('b')
  h.turns()
  expect([...h.ended]).toEqual([
    ['b', 'DATABASE_STOPPED'],
    ['a', 'done'],
  ])
  expect(thrownBy(() => h.submit('c'))).toBe('DATABASE_STOPPED')
})

test('a run that throws leaves its jobs unknown and stops the queue', () => {
  const h = new Harness({ groupJobsMax: 1 })
  h.answers = [new Error('a defect')]
  h.submit('a')
  h.submit('b')
  h.turns()
  expect([...h.ended]).toEqual([
    ['a', 'WRITE_OUTCOME_UNKNOWN'],
    ['b', 'DATABASE_STOPPED'],
  ])
})

test('ten thousand jobs keep their order', () => {
  const h = new Harness()
  for (let i = 0; i < 10_000; i++) h.submit(String(i))
  h.turns()
  expect(h.batches.flat()).toEqual(Array.from({ length: 10_000 }, (_, i) => String(i)))
  expect(h.batches.length).toBe(Math.ceil(10_000 / 256))
})

test('by default a batch runs in the next turn of the event loop', async () => {
  const order: string[] = []
  const queue = new WriteQueue({
    database: 'test.db',
    clock: { nowMs: () => 0, monotonicMs: () => 0, setTimer: () => ({ cancel: () => undefined }) },
    options: resolveWriteQueueOptions(),
    run: (batch) => {
      for (const job of batch) job.settle(DONE)
      return 'ran'
    },
  })
  const settled = new Promise<void>((resolve) => {
    queue.submit({
      kind: 'run',
      operation: { kind: 'procedure', name: 'a', input: undefined },
      requestId: undefined,
      idempotencyKey: undefined,
      deadlineMs: 1,
      bytes: 1,
      settle: () => {
        order.push('settled')
        resolve()
      },
    })
  })
  order.push('submitted')
  await Promise.resolve()
  order.push('microtask')
  await settled
  expect(order).toEqual(['submitted', 'microtask', 'settled'])
})

test('options out of range are refused by name', () => {
  expect(() => resolveWriteQueueOptions({ queueJobsMax: 0 })).toThrow('queueJobsMax')
  expect(() => resolveWriteQueueOptions({ groupBytesMax: 1.5 })).toThrow('INVALID_OPTION')
})
