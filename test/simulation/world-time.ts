/**
 * Virtual time: what is due, in order of time and then of the moment it was asked for.
 *
 * A timer belongs to an owner, a process of a simulated machine. The timers of a dead one never run; those of a paused
 * one are kept and run, in order, when it goes on: as after SIGSTOP and SIGCONT, and that is also how what the network
 * brings to it is delivered.
 */
import type { Timer } from '../../packages/core/src/base/clock.ts'

export interface TimerOwner {
  readonly isDead: boolean
  readonly isPaused: boolean
}

interface Due {
  readonly dueMs: number
  readonly order: number
  readonly owner: TimerOwner | undefined
  readonly action: () => void
  isCancelled: boolean
}

export class WorldTime {
  nowMs = 0
  #order = 0
  readonly #heap: Due[] = []
  readonly #held = new Map<TimerOwner, Due[]>()

  /** @param owner undefined: the world itself */
  setTimer(delayMs: number, owner: TimerOwner | undefined, action: () => void): Timer {
    const due: Due = {
      dueMs: this.nowMs + Math.max(0, delayMs),
      order: ++this.#order,
      owner,
      action,
      isCancelled: false,
    }
    this.#push(due)
    return { cancel: () => void (due.isCancelled = true) }
  }

  /** When something happens next; `undefined` when nothing will. */
  get nextMs(): number | undefined {
    this.#dropDead()
    return this.#heap[0]?.dueMs
  }

  /** Takes the next action and moves time to it; a paused owner's is kept back instead. */
  step(): void {
    this.#dropDead()
    const due = this.#pop()
    if (due === undefined) return
    this.nowMs = Math.max(this.nowMs, due.dueMs)
    if (due.owner?.isPaused === true) {
      const held = this.#held.get(due.owner) ?? []
      held.push(due)
      this.#held.set(due.owner, held)
      return
    }
    due.action()
  }

  /** What was kept back while the owner was paused becomes due now. */
  resumed(owner: TimerOwner): void {
    const held = this.#held.get(owner) ?? []
    this.#held.delete(owner)
    for (const { action, isCancelled } of held) if (!isCancelled) this.setTimer(0, owner, action)
  }

  #dropDead(): void {
    for (let first = this.#heap[0]; first !== undefined; first = this.#heap[0]) {
      if (!first.isCancelled && first.owner?.isDead !== true) return
      this.#pop()
    }
  }

  #push(due: Due): void {
    const heap = this.#heap
    let at = heap.length
    heap.push(due)
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (!isBefore(due, heap[parent] as Due)) break
      heap[at] = heap[parent] as Due
      at = parent
    }
    heap[at] = due
  }

  #pop(): Due | undefined {
    const heap = this.#heap
    const first = heap[0]
    const last = heap.pop()
    if (first === undefined || last === undefined || heap.length === 0) return first
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && isBefore(heap[child + 1] as Due, heap[child] as Due)) child++
      if (!isBefore(heap[child] as Due, last)) break
      heap[at] = heap[child] as Due
      at = child
    }
    heap[at] = last
    return first
  }
}

function isBefore(a: Due, b: Due): boolean {
  return a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.order < b.order)
}
