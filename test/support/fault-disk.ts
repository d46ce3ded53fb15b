/**
 * A disk whose named operations fail, stop half-way, take long, or kill the process, by rules that may change at any time.
 *
 * Rules are looked at in the order in which they were added; the first one that holds decides. What SQLite itself does with its files,
 * and what worker threads do, does not pass here: for those there is a small file system (small-disk.ts) and SIGKILL at any moment.
 * Every call is counted by name, so that a test can list the crash points of what it just did and visit each of them.
 */
import { writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { ClusterError } from '@litefleet/core'
import type { Disk } from '../../packages/core/src/files/disk.ts'
import { type DiskCall, interceptedDisk } from '../../packages/core/src/log/test-support/intercepted-disk.ts'

export type DiskMethod = keyof Disk

/** `midway`: a prefix of the bytes is written. Only calls that write bytes have such a moment; others die before. */
export type CrashMoment = 'before' | 'midway' | 'after'

export type FaultEffect =
  /** The call does nothing and fails. */
  | { readonly kind: 'fail'; readonly errno: string }
  /** Half of the bytes are written, then the call fails. What does not write bytes fails at once. */
  | { readonly kind: 'short'; readonly errno: string }
  /** SIGKILL: the kernel takes the process away, nothing is closed. */
  | { readonly kind: 'crash'; readonly when: CrashMoment }
  /** The call takes so much longer; a synchronous one holds up the process. */
  | { readonly kind: 'delay'; readonly ms: number }

export interface FaultRule {
  /** The name of an operation, or the beginning of one and a star: `log.append`, `log.*`, `*`. */
  readonly operation: string
  /** Only calls of these kinds. Default: all. */
  readonly methods?: readonly DiskMethod[] | undefined
  readonly effect: FaultEffect
  /** The first call it holds for, counted from now, from 1. Default: 1. */
  readonly occurrence?: number | undefined
  /** How many calls it then holds for. Default: 1. */
  readonly times?: number | 'always' | undefined
  /** It holds no longer than this after it was added. Default: without end. */
  readonly forMs?: number | undefined
}

export interface SeenOperation {
  readonly operation: string
  readonly method: DiskMethod
  readonly count: number
}

/** Calls after which the file system holds something else. */
export const CHANGING: readonly DiskMethod[] = [
  'write',
  'writeAside',
  'replaceDurably',
  'truncate',
  'rename',
  'remove',
  'makeDirectory',
]
/** Calls that need room. */
export const GROWING: readonly DiskMethod[] = ['write', 'writeAside', 'replaceDurably', 'makeDirectory']
export const SYNCING: readonly DiskMethod[] = ['dataSync', 'dataSyncNow', 'syncDirectory', 'replaceDurably']
const PARTIAL: readonly DiskMethod[] = ['write', 'writeAside', 'replaceDurably']

/** The moments at which a crash in this call leaves something different behind. */
export function crashMoments(method: DiskMethod): readonly CrashMoment[] {
  if (PARTIAL.includes(method)) return ['before', 'midway', 'after']
  return CHANGING.includes(method) ? ['before', 'after'] : ['before']
}

interface ActiveRule {
  readonly rule: FaultRule
  readonly untilMs: number
  /** Calls still to come before it holds. */
  skip: number
  left: number
}

const sleeper = new Int32Array(new SharedArrayBuffer(4))

export class FaultDisk {
  readonly disk: Disk
  readonly #real: Disk
  readonly #seen = new Map<string, { operation: string; method: DiskMethod; count: number }>()
  #rules: ActiveRule[] = []

  constructor(real: Disk) {
    this.#real = real
    this.disk = interceptedDisk(real, (call) => this.#pass(call))
  }

  addRule(rule: FaultRule): void {
    const { occurrence = 1, times = 1, forMs } = rule
    this.#rules.push({
      rule,
      untilMs: forMs === undefined ? Number.POSITIVE_INFINITY : performance.now() + forMs,
      skip: occurrence - 1,
      left: times === 'always' ? Number.POSITIVE_INFINITY : times,
    })
  }

  clearRules(): void {
    this.#rules = []
  }

  /** Every operation since the start, or since this was last asked for with `forget`, in the order of their first calls. */
  seen(forget: boolean): readonly SeenOperation[] {
    const seen = [...this.#seen.values()]
    if (forget) this.#seen.clear()
    return seen
  }

  #pass(call: DiskCall): unknown {
    const { operation, method } = call
    const key = `${operation} ${method}`
    const known = this.#seen.get(key)
    if (known === undefined) this.#seen.set(key, { operation, method, count: 1 })
    else known.count++
    const effect = this.#effectOn(call)
    if (effect === undefined) return call.run()
    switch (effect.kind) {
      case 'fail':
        return this.#fail(call, effect.errno)
      case 'short':
        this.#writeHalf(call)
        return this.#fail(call, effect.errno)
      case 'delay':
        return this.#delay(call, effect.ms)
      default:
        return this.#crash(call, effect.when)
    }
  }

  #effectOn(call: DiskCall): FaultEffect | undefined {
    const nowMs = performance.now()
    this.#rules = this.#rules.filter(({ left, untilMs }) => left > 0 && untilMs > nowMs)
    let effect: FaultEffect | undefined
    for (const active of this.#rules) {
      if (!matches(active.rule, call)) continue
      if (active.skip > 0) active.skip--
      else if (effect === undefined) {
        active.left--
        effect = active.rule.effect
      }
    }
    return effect
  }

  #fail(call: DiskCall, errno: string): Promise<never> {
    const { operation } = call
    const error = new ClusterError('STORAGE_FAILED', `${operation}: ${errno}`, { details: { operation, errno } })
    if (call.method === 'writeAside' || call.method === 'dataSync') return Promise.reject(error)
    throw error
  }

  #delay(call: DiskCall, ms: number): unknown {
    if (call.method === 'writeAside' || call.method === 'dataSync') return sleep(ms).then(() => call.run())
    Atomics.wait(sleeper, 0, 0, ms)
    return call.run()
  }

  #crash(call: DiskCall, when: CrashMoment): unknown {
    if (when === 'midway') this.#writeHalf(call)
    const result = when === 'after' ? call.run() : undefined
    if (result instanceof Promise) return result.then(die)
    return die()
  }

  #writeHalf(call: DiskCall): void {
    if (call.method === 'replaceDurably') {
      const [, file, content] = call.args as Parameters<Disk['replaceDurably']>
      writeFileSync(`${file}.tmp`, content.subarray(0, content.length >> 1))
    } else if (call.method === 'write' || call.method === 'writeAside') {
      const [operation, fd, source, offset, length, position] = call.args as Parameters<Disk['write']>
      this.#real.write(operation, fd, source, offset, length >> 1, position)
    }
  }
}

function matches({ operation, methods }: FaultRule, call: DiskCall): boolean {
  if (methods !== undefined && !methods.includes(call.method)) return false
  return operation.endsWith('*') ? call.operation.startsWith(operation.slice(0, -1)) : call.operation === operation
}

function die(): never {
  process.kill(process.pid, 'SIGKILL')
  // The kernel takes the process away before this returns, or a moment later.
  Atomics.wait(sleeper, 0, 0)
  throw new Error('SIGKILL did not end the process')
}
