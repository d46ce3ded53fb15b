import { expect, test } from 'vitest'
import { TailCache } from './tail-cache.ts'

const KIB = 1024
const owner = {}

function put(cache: TailCache, fileOffset: number, text: string, of: object = owner): void {
  const { buffer, from } = cache.reserve(of, fileOffset, text.length)
  buffer.write(text, from, 'latin1')
}

function get(cache: TailCache, fileOffset: number, of: object = owner): string | undefined {
  const found = cache.find(of, fileOffset)
  return found?.buffer.toString('latin1', found.from, found.to)
}

test('bytes are found at their offset, with all that follows in one piece', () => {
  const cache = new TailCache(256 * KIB)
  put(cache, 48, 'one')
  put(cache, 51, 'two')
  expect(get(cache, 48)).toBe('onetwo')
  expect(get(cache, 51)).toBe('two')
  expect(get(cache, 54)).toBeUndefined()
  expect(get(cache, 47)).toBeUndefined()
})

test('files are told apart by identity', () => {
  const cache = new TailCache(256 * KIB)
  const other = {}
  put(cache, 0, 'mine')
  put(cache, 0, 'yours', other)
  expect([get(cache, 0), get(cache, 0, other), get(cache, 0, {})]).toEqual(['mine', 'yours', undefined])
})

test('at the bound the oldest bytes leave; what was found before stays as it was', () => {
  const cache = new TailCache(256 * KIB)
  put(cache, 0, 'first')
  const found = cache.find(owner, 0)!
  let at = 5
  for (; at < 2000 * KIB; at += 1000) {
    put(cache, at, 'x'.repeat(1000))
    expect(cache.bytes).toBeLessThanOrEqual(256 * KIB)
  }
  expect(get(cache, 0)).toBeUndefined()
  expect(get(cache, at - 1000)).toBe('x'.repeat(1000))
  expect(found.buffer.toString('latin1', found.from, found.to)).toBe('first')
})

test('what is larger than the cache is not kept, and drives nothing out', () => {
  const cache = new TailCache(100)
  put(cache, 0, 'small')
  put(cache, 5, 'y'.repeat(101))
  expect([get(cache, 0), get(cache, 5)]).toEqual(['small', undefined])
})

test('a cache of no bytes keeps nothing', () => {
  const cache = new TailCache(0)
  put(cache, 0, 'x')
  expect(get(cache, 0)).toBeUndefined()
})

test('what is truncated is forgotten, and the place can be written again', () => {
  const cache = new TailCache(256 * KIB)
  put(cache, 0, 'keep')
  put(cache, 4, 'drop')
  cache.truncate(owner, 4)
  expect([get(cache, 0), get(cache, 4)]).toEqual(['keep', undefined])
  put(cache, 4, 'new')
  expect(get(cache, 0)).toBe('keepnew')
  cache.truncate(owner, 0)
  expect([get(cache, 0), cache.bytes]).toEqual([undefined, 0])
})
