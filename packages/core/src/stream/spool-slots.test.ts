import { expect, test } from 'vitest'
import { ZERO_POSITION } from '../position/position.ts'
import type { SnapshotSpool } from './snapshot-spool.ts'
import { SpoolSlots } from './spool-slots.ts'
import { settle } from './test-support/until.ts'

function spool(done: Promise<void>): SnapshotSpool {
  return { position: ZERO_POSITION, sizeBytes: 0, done, read: async function* () {}, close: () => undefined }
}

test('a slot is held until the copy is complete or failed, whatever becomes of the sending', async () => {
  const slots = new SpoolSlots(1)
  const { signal } = new AbortController()
  const [first, second] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  await slots.open(signal, () => Promise.resolve(spool(first.promise)))
  const order: string[] = []
  const waiting = [
    slots.open(signal, () => Promise.resolve(spool(second.promise))).then(() => order.push('second')),
    slots.open(signal, () => Promise.resolve(spool(Promise.resolve()))).then(() => order.push('third')),
  ]
  await settle()
  expect(order).toEqual([])
  first.resolve()
  await settle()
  expect(order).toEqual(['second'])
  second.reject(new Error('disk'))
  await Promise.all(waiting)
  expect(order).toEqual(['second', 'third'])
})

test('a copy that cannot begin gives its slot back', async () => {
  const slots = new SpoolSlots(1)
  const { signal } = new AbortController()
  await expect(slots.open(signal, () => Promise.reject(new Error('disk')))).rejects.toThrow('disk')
  await slots.open(signal, () => Promise.resolve(spool(Promise.resolve())))
})

test('who stops waiting leaves the queue', async () => {
  const slots = new SpoolSlots(1)
  const held = Promise.withResolvers<void>()
  await slots.open(new AbortController().signal, () => Promise.resolve(spool(held.promise)))
  const abort = new AbortController()
  const left = expect(slots.open(abort.signal, () => Promise.reject(new Error('must not be called')))).rejects.toThrow(
    'enough',
  )
  const next = slots.open(new AbortController().signal, () => Promise.resolve(spool(Promise.resolve())))
  abort.abort(new Error('enough'))
  await left
  held.resolve()
  await next
  await expect(slots.open(abort.signal, () => Promise.resolve(spool(Promise.resolve())))).rejects.toThrow('enough')
})
