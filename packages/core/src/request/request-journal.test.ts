import { expect, test } from 'vitest'
import { decodeRequests, JOURNAL_BYTES_MAX, RequestJournal } from './request-journal.ts'
import { parseRequestId } from './request-id.ts'
import type { WriteOperation } from './write-request.ts'

const ID = parseRequestId('0123456789abcdef0123456789abcdef')

test('what the writes of a transaction were asked for is read back', () => {
  const batch: WriteOperation = {
    kind: 'batch',
    statements: [
      { sql: 'INSERT INTO t VALUES (?, :a)', params: { a: 2n ** 60n, b: Buffer.from([1]) }, safeIntegers: true },
    ],
  }
  const procedure: WriteOperation = { kind: 'procedure', name: 'charge', input: { cents: -1.5, at: new Date(5) } }
  const bytes = new RequestJournal().encode([
    { requestId: ID, idempotencyKey: undefined, operation: batch, bytes: 100 },
    { requestId: undefined, idempotencyKey: 'a key', operation: procedure, bytes: 100 },
  ])
  expect(decodeRequests(bytes)).toEqual([
    { requestId: ID, idempotencyKey: undefined, operation: batch },
    { requestId: undefined, idempotencyKey: 'a key', operation: procedure },
  ])
  for (let length = 0; length < bytes.length; length++)
    expect(() => decodeRequests(bytes.subarray(0, length))).toThrow('CORRUPT_DATA')
})

test('an operation that would make it too large is left out, its id is not', () => {
  const large: WriteOperation = {
    kind: 'batch',
    statements: [{ sql: 'INSERT INTO t VALUES (?)', params: [Buffer.alloc(JOURNAL_BYTES_MAX)] }],
  }
  const small: WriteOperation = { kind: 'batch', statements: [{ sql: 'DELETE FROM t' }] }
  const bytes = new RequestJournal().encode([
    { requestId: ID, idempotencyKey: 'k', operation: large, bytes: JOURNAL_BYTES_MAX + 50 },
    { requestId: undefined, idempotencyKey: undefined, operation: small, bytes: 20 },
  ])
  expect(decodeRequests(bytes).map(({ operation }) => operation?.kind)).toEqual([undefined, 'batch'])
  expect(bytes.length).toBeLessThan(1000)
})
