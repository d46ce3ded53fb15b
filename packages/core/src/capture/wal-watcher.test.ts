import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { CapturedDatabase } from './test-support/captured-database.ts'
import { type Clock, systemClock } from '../base/clock.ts'
import { type WatchFile, watchFile } from '../files/file-watch.ts'
import { WalWatcher } from './wal-watcher.ts'

let directory = ''
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-watcher-'))
})
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }))

/** Resolves after the turn of the event loop in which marks are looked at. */
const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)))

/** A clock whose timers fire by hand. */
class HandClock implements Clock {
  readonly timers = new Set<() => void>()
  nowMs = (): number => 0
  monotonicMs = (): number => 0
  setTimer(_delayMs: number, action: () => void) {
    const fire = (): void => {
      this.timers.delete(fire)
      action()
    }
    this.timers.add(fire)
    return { cancel: () => void this.timers.delete(fire) }
  }
  fireAll(): void {
    // Those that are set meanwhile wait for the next call.
    const due = Array.from(this.timers)
    for (const fire of due) fire()
  }
}

/** A watcher over stand-ins: `event` and `fail` play the operating system. */
function standIn(options: { hasUncaptured?: () => boolean; canWatch?: boolean; failure?: Error } = {}) {
  const clock = new HandClock()
  let changes = 0
  let watchesClosed = 0
  let event = (): void => {}
  let fail = (_error: unknown): void => {}
  const watch: WatchFile = (_file, onEvent, onError) => {
    if (options.canWatch === false) throw new Error('no inotify instance left')
    event = onEvent
    fail = onError
    return { close: () => void watchesClosed++ }
  }
  const lost: unknown[] = []
  const failures: unknown[] = []
  const watcher = new WalWatcher({
    walPath: 'database-wal',
    watch,
    clock,
    pollMs: 250,
    hasUncaptured: options.hasUncaptured ?? (() => true),
    onChange: () => {
      changes++
      if (options.failure !== undefined) throw options.failure
    },
    onFailure: (error) => void failures.push(error),
    onWatchLost: (error) => void lost.push(error),
  })
  return {
    watcher,
    clock,
    lost,
    failures,
    changes: () => changes,
    watchesClosed: () => watchesClosed,
    event: () => event(),
    fail: (error: unknown) => fail(error),
  }
}

test('a commit of another process is noticed and captured', async () => {
  const database = CapturedDatabase.open(directory)
  database.writer.exec('CREATE TABLE t(a)')
  database.take()
  const seen = Promise.withResolvers<void>()
  const watcher = new WalWatcher({
    walPath: database.files.walPath,
    watch: watchFile,
    clock: systemClock,
    pollMs: 250,
    hasUncaptured: () => database.capture.hasUncaptured(),
    onChange: () => {
      database.take(true)
      seen.resolve()
    },
    onFailure: (error) => seen.reject(error),
  })
  watcher.open()
  await nextTurn()
  execFileSync('sqlite3', [database.file, 'INSERT INTO t VALUES (1)'])
  await seen.promise
  database.expectSame()
  watcher.close()
  database.close()
})

test('many events of one turn become one look', async () => {
  const { watcher, event, changes } = standIn()
  watcher.open()
  await nextTurn()
  const before = changes()
  for (let i = 0; i < 50; i++) event()
  await nextTurn()
  expect(changes() - before).toBe(1)
  watcher.close()
})

test('what was captured already is no change', async () => {
  const { watcher, event, changes } = standIn({ hasUncaptured: () => false })
  watcher.open()
  event()
  await nextTurn()
  expect(changes()).toBe(0)
  watcher.close()
})

test('commits made before the watch stood are found when it opens', async () => {
  const { watcher, changes } = standIn()
  watcher.open()
  await nextTurn()
  expect(changes()).toBe(1)
  watcher.close()
})

test('the poll looks again and again without any event', async () => {
  const { watcher, clock, changes } = standIn()
  watcher.open()
  await nextTurn()
  for (let i = 0; i < 3; i++) {
    clock.fireAll()
    await nextTurn()
  }
  expect(changes()).toBe(4)
  watcher.close()
})

test('nothing is called after close, not even for a mark that was set before', async () => {
  const { watcher, clock, event, fail, changes, lost, watchesClosed } = standIn()
  watcher.open()
  await nextTurn()
  const before = changes()
  event()
  watcher.close()
  event()
  clock.fireAll()
  fail(new Error('late'))
  await nextTurn()
  expect(changes()).toBe(before)
  expect(lost).toEqual([])
  expect(watchesClosed()).toBe(1)
  expect(clock.timers.size).toBe(0)
  watcher.open()
  await nextTurn()
  expect(changes()).toBe(before)
})

test('a watch that fails is told of once, and the poll goes on', async () => {
  const { watcher, clock, fail, changes, lost } = standIn()
  watcher.open()
  await nextTurn()
  const error = new Error('inotify queue overflow')
  fail(error)
  expect(lost).toEqual([error])
  expect(watcher.isWatching).toBe(false)
  const before = changes()
  clock.fireAll()
  await nextTurn()
  expect(changes()).toBe(before + 1)
  watcher.close()
})

test('without a watch from the beginning the poll alone finds commits', async () => {
  const { watcher, clock, changes, lost } = standIn({ canWatch: false })
  watcher.open()
  await nextTurn()
  expect(lost).toHaveLength(1)
  const before = changes()
  clock.fireAll()
  await nextTurn()
  expect(changes()).toBe(before + 1)
  watcher.close()
})

test('a capture that throws closes the watcher, and what it threw is handed on once', async () => {
  const failure = new Error('CORRUPT_DATA')
  const { watcher, clock, event, changes, failures } = standIn({ failure })
  watcher.open()
  await nextTurn()
  expect(failures).toEqual([failure])
  event()
  clock.fireAll()
  await nextTurn()
  expect(failures).toHaveLength(1)
  expect(changes()).toBe(1)
  expect(clock.timers.size).toBe(0)
})
