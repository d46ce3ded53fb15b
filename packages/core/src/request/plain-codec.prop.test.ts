import fc from 'fast-check'
import { expect, test } from 'vitest'
import { isClusterError } from '../errors/cluster-error.ts'
import { decodeAnswer, writeAnswer } from './answer-codec.ts'
import { OperationHasher } from './operation-hash.ts'
import { PlainReader } from './plain-reader.ts'
import { plainSize } from './plain-size.ts'
import type { PlainValue } from './plain-value.ts'
import { PlainWriter, WriterFull } from './plain-writer.ts'
import type { SqlValue } from './sql-value.ts'
import type { StatementResult, WriteResult } from './write-request.ts'

const number = fc.oneof(
  fc.integer(),
  fc.double(),
  fc.maxSafeInteger(),
  fc.constantFrom(0, -0, 191, 192, 2 ** 31, 2 ** 53, -(2 ** 53), Number.NaN, Number.POSITIVE_INFINITY),
)
const text = fc.oneof(
  fc.string(),
  fc.string({ unit: 'binary' }),
  fc.string({ minLength: 40, maxLength: 90 }),
  fc.constantFrom('\ud800', 'x\udfff', '', '__proto__', '\0'),
)
const bytes = fc.uint8Array({ maxLength: 300 })
const buffer = bytes.map((array) => Buffer.from(array))
const sqlValue: fc.Arbitrary<SqlValue> = fc.oneof(
  number,
  text,
  buffer,
  fc.constant(null),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
)
const plainValue = fc.letrec<{ value: PlainValue }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    sqlValue,
    fc.constantFrom(undefined, true, false),
    fc.bigInt(),
    bytes,
    fc.date({ noInvalidDate: false }),
    fc.array(tie('value'), { maxLength: 5 }),
    fc.dictionary(text, tie('value'), { maxKeys: 5, noNullPrototype: true }),
  ),
})).value

function encode(value: PlainValue): Buffer {
  const writer = new PlainWriter()
  writer.value(value)
  return Buffer.from(writer.written)
}

function decode(encoded: Uint8Array): PlainValue {
  const reader = new PlainReader(encoded)
  const value = reader.value()
  expect(reader.isAtEnd).toBe(true)
  return value
}

test('every plain value comes back deeply equal', () => {
  fc.assert(
    fc.property(plainValue, (value) => {
      expect(decode(encode(value))).toStrictEqual(value)
    }),
    { numRuns: 2_000 },
  )
})

test('a Buffer stays a Buffer, a Uint8Array stays one, also one that is a part of a larger one', () => {
  const part = new Uint8Array([1, 2, 3, 4]).subarray(1, 3)
  expect(decode(encode(part))).toStrictEqual(new Uint8Array([2, 3]))
  const value = decode(encode([Buffer.from('ab'), part])) as Uint8Array[]
  expect(value.map((item) => Buffer.isBuffer(item))).toEqual([true, false])
})

test('an own key named __proto__ does not become a prototype', () => {
  const value = JSON.parse('{"__proto__": {"polluted": 1}, "a": 2}') as PlainValue
  const back = decode(encode(value)) as Record<string, PlainValue>
  expect(Object.keys(back)).toEqual(['__proto__', 'a'])
  expect(Object.getPrototypeOf(back)).toBe(Object.prototype)
})

test('a hole in an array is undefined', () => {
  // oxlint-disable-next-line no-sparse-arrays
  expect(decode(encode([1, , 2] as PlainValue))).toStrictEqual([1, undefined, 2])
})

test('damaged or truncated bytes are CORRUPT_DATA, never endless work or something else', () => {
  fc.assert(
    fc.property(plainValue, fc.nat(), fc.nat(255), (value, at, byte) => {
      const encoded = encode(value)
      encoded[at % encoded.length] = byte
      for (const attempt of [encoded, encoded.subarray(0, at % encoded.length)]) {
        try {
          new PlainReader(attempt).value()
        } catch (error) {
          expect(isClusterError(error, 'CORRUPT_DATA')).toBe(true)
        }
      }
    }),
    { numRuns: 3_000 },
  )
})

test('what is not plain is refused by writing and by measuring alike', () => {
  class Point {
    readonly x = 1
  }
  const circular: unknown[] = []
  circular.push(circular)
  for (const value of [
    () => 1,
    Symbol('s'),
    new Point(),
    new Map(),
    new Float64Array(1),
    new ArrayBuffer(1),
    circular,
    /x/,
    Promise.resolve(),
  ]) {
    for (const attempt of [() => encode(value as PlainValue), () => plainSize(value as PlainValue)]) {
      let thrown: unknown
      try {
        attempt()
      } catch (error) {
        thrown = error
      }
      expect(isClusterError(thrown, 'INVALID_REQUEST')).toBe(true)
    }
  }
})

test('measuring accepts every plain value and never measures less than a third of its bytes', () => {
  fc.assert(
    fc.property(plainValue, (value) => {
      expect(plainSize(value) * 3).toBeGreaterThanOrEqual(encode(value).length)
    }),
  )
})

test('a writer with a bound stops there', () => {
  const writer = new PlainWriter({ bytesMax: 5_000 })
  expect(() => writer.value('x'.repeat(10_000))).toThrow(WriterFull)
  writer.reset()
  writer.value('short')
  expect(decode(writer.written)).toBe('short')
})

const results: fc.Arbitrary<readonly StatementResult[]> = fc.array(
  fc
    .tuple(
      fc.nat(),
      fc.oneof(number, fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })),
      fc.uniqueArray(text, { maxLength: 4 }),
      fc.nat(3),
      fc.boolean(),
    )
    .chain(([changes, lastInsertRowid, columns, count, hasRows]) =>
      fc.array(fc.tuple(...columns.map(() => sqlValue)), { minLength: count, maxLength: count }).map((rows) => {
        if (!hasRows) return { changes, lastInsertRowid }
        return {
          changes,
          lastInsertRowid,
          rows: rows.map((row) => Object.fromEntries(columns.map((column, i) => [column, row[i] as SqlValue]))),
        }
      }),
    ),
  { maxLength: 4 },
)

test('every answer comes back deeply equal', () => {
  const answer: fc.Arbitrary<WriteResult> = fc.oneof(
    results.map((list) => ({ kind: 'batch' as const, results: list })),
    plainValue.map((value) => ({ kind: 'procedure' as const, value })),
  )
  fc.assert(
    fc.property(answer, (result) => {
      const writer = new PlainWriter()
      writeAnswer(writer, result)
      expect(decodeAnswer(writer.written)).toStrictEqual(result)
    }),
    { numRuns: 1_000 },
  )
})

test('rows that do not share their columns come back, too', () => {
  const rows = [{ a: 1 }, { b: 2, c: 3 }, {}]
  const writer = new PlainWriter()
  writeAnswer(writer, { kind: 'batch', results: [{ changes: 0, lastInsertRowid: 0, rows }] })
  expect(decodeAnswer(writer.written)).toStrictEqual({
    kind: 'batch',
    results: [{ changes: 0, lastInsertRowid: 0, rows }],
  })
})

test('an operation has one hash, whatever the order of its keys and the class of its bytes; another one has another', () => {
  const hasher = new OperationHasher()
  const hash = (input: PlainValue): string => hasher.hash({ kind: 'procedure', name: 'p', input })
  fc.assert(
    fc.property(plainValue, plainValue, (a, b) => {
      const shuffled = reversedKeys(a)
      expect(hash(shuffled)).toBe(hash(a))
      expect(hash(decode(encode(a)))).toBe(hash(a))
      if (!encode(reversedKeys(reversedKeys(a))).equals(encode(reversedKeys(reversedKeys(b)))))
        expect(hash(a) === hash(b)).toBe(sameButForBytes(a, b))
    }),
    { numRuns: 1_000 },
  )
  expect(hash([1])).not.toBe(hash([1n]))
  expect(hash({})).not.toBe(hash([]))
  expect(hash(Buffer.from('a'))).toBe(hash(new Uint8Array([97])))
  const batch = (safeIntegers?: boolean): string =>
    hasher.hash({ kind: 'batch', statements: [{ sql: 'x', safeIntegers }] })
  expect(batch()).toBe(batch(false))
  expect(batch()).not.toBe(batch(true))
  expect(batch()).toHaveLength(16)
})

function reversedKeys(value: PlainValue): PlainValue {
  if (typeof value !== 'object' || value === null || value instanceof Date) return value
  if (Buffer.isBuffer(value)) return new Uint8Array(value)
  if (value instanceof Uint8Array) return value
  if (Array.isArray(value)) return value.map(reversedKeys)
  return Object.fromEntries(
    Object.entries(value)
      .reverse()
      .map(([key, item]) => [key, reversedKeys(item)]),
  )
}

/** Key order and the class of bytes aside. */
function sameButForBytes(a: PlainValue, b: PlainValue): boolean {
  const sorted = (value: PlainValue): PlainValue => {
    const plain = reversedKeys(value)
    if (typeof plain !== 'object' || plain === null || plain instanceof Date || plain instanceof Uint8Array)
      return plain
    if (Array.isArray(plain)) return plain.map(sorted)
    return Object.fromEntries(
      Object.entries(plain)
        .sort(([x], [y]) => (x < y ? -1 : 1))
        .map(([key, item]) => [key, sorted(item)]),
    )
  }
  return encode(sorted(a)).equals(encode(sorted(b)))
}
