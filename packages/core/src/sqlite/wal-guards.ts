/**
 * Keeps the WAL from losing frames that were not captured: two connections that take turns holding a read transaction.
 *
 * While a guard holds read mark 1–4 no writer can restart the WAL. When everything is backfilled SQLite gives a new reader
 * slot 0 instead; then one restart is possible, but nothing of the new generation can be backfilled, so no second restart
 * can follow. Either way every frame that was not captured when the current guard began is still in the WAL.
 *
 * Order of a rotation: the new guard begins, then everything committed is captured, then the old guard ends. Ending the
 * old one first would leave an instant in which two restarts are possible.
 *
 * Promises: no writer is ever blocked. After an error in between, the old guard still stands and the new one is gone.
 * Nothing is protected before `open()` and after `close()`.
 */
import type { Statement } from 'better-sqlite3'
import { assert } from '../base/assert.ts'
import type { Connection } from './connection.ts'
import { isBusy } from './sqlite-error.ts'

interface Guard {
  readonly begin: Statement
  readonly touch: Statement
  readonly end: Statement
}

export class WalGuards {
  readonly #connections: readonly [Connection, Connection]
  #current: Guard | undefined
  #spare: Guard | undefined
  #closed = false
  #isRotating = false

  /** @param connections two of their own, used for nothing else; `close()` closes them */
  constructor(connections: readonly [Connection, Connection]) {
    this.#connections = connections
  }

  /** Inside `rotate`, where a second rotation must not begin. */
  get isRotating(): boolean {
    return this.#isRotating
  }

  /** Begins the first guard. Idempotent. */
  open(): void {
    assert(!this.#closed, 'guards are closed')
    if (this.#current !== undefined) return
    const [first, second] = this.#connections.map(makeGuard)
    assert(first !== undefined && second !== undefined, 'two guards are needed')
    this.#spare = second
    begin(first)
    this.#current = first
  }

  /**
   * Moves the guard to the current end of the WAL.
   * @param captureBetween captures everything committed, and makes it durable where the WAL may be discarded next;
   * what it throws leaves the old guard in place
   * @returns false when SQLite could not begin the new guard just now (another process is recovering the WAL): nothing
   * changed and `captureBetween` was not called
   */
  rotate(captureBetween: () => void): boolean {
    const old = this.#current
    const next = this.#spare
    assert(old !== undefined && next !== undefined && !this.#closed, 'guards are not open')
    assert(!this.#isRotating, 'a rotation inside a rotation')
    try {
      begin(next)
    } catch (error) {
      if (isBusy(error)) return false
      throw error
    }
    this.#isRotating = true
    try {
      captureBetween()
    } catch (error) {
      next.end.run()
      throw error
    } finally {
      this.#isRotating = false
    }
    this.#current = next
    this.#spare = old
    old.end.run()
    return true
  }

  /** Ends the guard and closes both connections. Idempotent. From here on the WAL may be restarted or deleted. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#current = undefined
    for (const connection of this.#connections) connection.close()
  }
}

function makeGuard(connection: Connection): Guard {
  return {
    begin: connection.prepare('BEGIN'),
    // Starts the read transaction without loading the schema, which a `SELECT` would do again after every schema change.
    touch: connection.prepare('PRAGMA user_version'),
    end: connection.prepare('COMMIT'),
  }
}

function begin(guard: Guard): void {
  guard.begin.run()
  try {
    guard.touch.get()
  } catch (error) {
    guard.end.run()
    throw error
  }
}
