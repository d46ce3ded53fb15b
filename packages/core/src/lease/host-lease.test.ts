/** Real: files, locks of the kernel, processes that are killed and stopped while they hold the lease. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { systemClock } from '../base/clock.ts'
import { realDisk } from '../files/disk.ts'
import { epoch } from '../position/epoch.ts'
import { until } from '../stream/test-support/until.ts'
import { HostLease } from './host-lease.ts'
import { type LeaseFleet, leaseConformance } from './test-support/lease-conformance.ts'
import { holderOf, take, tryToTake } from './test-support/take-lease.ts'

const HOLDER = path.join(import.meta.dirname, 'test-support/host-holder.ts')

let directory = ''
let leases: HostLease[] = []
const children: ChildProcess[] = []
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-host-lease-'))
})
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  for (const lease of leases) await lease.close()
  leases = []
  fs.rmSync(directory, { recursive: true, force: true })
})

function join({ isCandidate = true, pollMs = 10 } = {}): HostLease {
  const lease = new HostLease({ directory, isCandidate, disk: realDisk, clock: systemClock, pollMs })
  leases.push(lease)
  return lease
}

/** Another process that has the lease. */
async function startHolder(name: string): Promise<{ child: ChildProcess; epoch: number }> {
  const child = fork(HOLDER, [directory, name], { execArgv: [] })
  children.push(child)
  const [message] = (await once(child, 'message')) as [{ epoch: number }]
  return { child, epoch: message.epoch }
}

async function killed(child: ChildProcess): Promise<void> {
  const exit = once(child, 'exit')
  child.kill('SIGKILL')
  await exit
}

leaseConformance('host', () => {
  const fleet: LeaseFleet = { join, [Symbol.asyncDispose]: () => Promise.resolve() }
  return Promise.resolve(fleet)
})

describe('a process that has it', () => {
  test('and is killed frees it at once; what it left is not taken for a holder, and its epoch does not come again', async () => {
    const { child, epoch: before } = await startHolder('other')
    const told: (string | undefined)[] = []
    const watcher = join()
    watcher.observe((holder) => told.push(holder?.name))
    expect(await tryToTake(watcher, 'me')).toEqual({ kind: 'taken', holder: holderOf('other') })
    await killed(child)
    expect(fs.readFileSync(path.join(directory, 'holder'), 'utf8')).toContain('other')
    await until(() => told.length === 2)
    expect(told).toEqual(['other', undefined])
    expect((await take(watcher, 'me')).epoch).toBeGreaterThan(before)
  })

  test('and stands still keeps it', async () => {
    const { child } = await startHolder('other')
    child.kill('SIGSTOP')
    const me = join()
    for (let i = 0; i < 20; i++) expect(await tryToTake(me, 'me')).toEqual({ kind: 'taken', holder: holderOf('other') })
    await killed(child)
    await take(me, 'me')
  })

  test('is never two, however often the one that has it is killed', async () => {
    const epochs: number[] = []
    for (let round = 0; round < 5; round++) {
      const [first, second] = [startHolder('a'), startHolder('b')]
      const winner = await Promise.race([first, second])
      epochs.push(winner.epoch)
      await killed(winner.child)
      const next = (await Promise.all([first, second])).find(({ child }) => child !== winner.child)!
      epochs.push(next.epoch)
      await killed(next.child)
    }
    expect(epochs).toEqual([...epochs].toSorted((a, b) => a - b))
    expect(new Set(epochs).size).toBe(epochs.length)
  })
})

test('who takes it and who gives it back wakes the others, however seldom they look', async () => {
  const told: (string | undefined)[] = []
  join({ pollMs: 3_600_000 }).observe((holder) => told.push(holder?.name))
  const held = await take(join(), 'other')
  await until(() => told.at(-1) === 'other')
  await held.release()
  await until(() => told.at(-1) === undefined)
  expect(told).toEqual([undefined, 'other', undefined])
})

test('a lock file that is removed ends the lease, also when another one was made and taken at once', async () => {
  const held = await take(join(), 'me')
  fs.rmSync(path.join(directory, 'lock'))
  const other = await take(join(), 'other')
  await until(() => held.lost.aborted)
  expect([held.isHeld(0), other.isHeld(0)]).toEqual([false, true])
  expect(held.lost.reason).toContain('removed')
  expect(other.epoch).toBeGreaterThan(held.epoch)
})

test('a lock file that is removed while it is being locked is no lease', async () => {
  const file = path.join(directory, 'lock')
  const disk = {
    ...realDisk,
    open: (operation: string, name: string, flags: 'r' | 'r+' | 'w+' | 'wx+') => {
      const fd = realDisk.open(operation, name, flags)
      if (operation === 'lease.open' && removals-- > 0) fs.rmSync(file)
      return fd
    },
  }
  let removals = 1
  const lease = new HostLease({ directory, disk, clock: systemClock, pollMs: 10 })
  leases.push(lease)
  expect((await tryToTake(lease, 'me')).kind).toBe('taken')
  expect((await tryToTake(lease, 'me')).kind).toBe('held')
})

test('an epoch file that holds none is refused by name, and the lease is free for whoever puts it right', async () => {
  fs.writeFileSync(path.join(directory, 'epoch'), 'seven')
  const lease = join()
  await expect(tryToTake(lease, 'me')).rejects.toMatchObject({ code: 'CORRUPT_DATA' })
  fs.writeFileSync(path.join(directory, 'epoch'), '7\n')
  expect((await take(join(), 'other', epoch(3))).epoch).toBe(8)
})
