import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { checksum } from '../position/checksum.ts'
import { epoch } from '../position/epoch.ts'
import { txid } from '../position/txid.ts'
import type { RequestId } from '../request/request-id.ts'
import { decodeCall, decodeWriteAnswer, WriteCodec } from './write-codec.ts'
import { TEST_DATABASE } from './test-support/test-node.ts'
import type { WriteAnswer, WriteCall } from './write-call.ts'
import { levels, operations, plainRecord, plainValues, sqlValues } from './test-support/generated-values.ts'

const requestIds = fc
  .uint8Array({ minLength: 16, maxLength: 16 })
  .map((bytes) => Buffer.from(bytes).toString('hex') as RequestId)

const calls: fc.Arbitrary<WriteCall> = plainRecord({
  database: fc.constant(TEST_DATABASE),
  operation: operations,
  requestId: fc.option(requestIds, { nil: undefined }),
  idempotencyKey: fc.option(fc.string({ unit: 'binary' }), { nil: undefined }),
  await: levels,
  timeoutMs: fc.constant(1_234),
})

const rows = fc
  .uniqueArray(fc.string({ unit: 'binary' }), { maxLength: 5 })
  .chain((columns) =>
    fc.array(
      fc
        .tuple(...columns.map(() => sqlValues))
        .map((values) => Object.fromEntries(columns.map((name, i) => [name, values[i]!]))),
    ),
  )

const answers: fc.Arbitrary<WriteAnswer> = plainRecord({
  result: fc.oneof(
    plainRecord({ kind: fc.constant('procedure' as const), value: plainValues }),
    plainRecord({
      kind: fc.constant('batch' as const),
      results: fc.array(
        fc.record(
          {
            changes: fc.nat(),
            lastInsertRowid: fc.oneof(fc.integer(), fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })),
            rows,
          },
          { requiredKeys: ['changes', 'lastInsertRowid'], noNullPrototype: true },
        ),
      ),
    }),
  ),
  database: fc.constant(TEST_DATABASE),
  position: plainRecord({
    txid: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map(txid),
    checksum: fc.bigInt({ min: 2n ** 63n, max: 2n ** 64n - 1n }).map(checksum),
  }),
  epoch: fc.maxSafeNat().map(epoch),
  level: levels,
  uncounted: fc.array(fc.string({ unit: 'binary' })),
  requestId: fc.option(requestIds, { nil: undefined }),
  replayed: fc.boolean(),
})

describe('the compact form', () => {
  const codec = new WriteCodec()

  it('carries every write exactly', () => {
    fc.assert(
      fc.property(calls, (call) => {
        expect(decodeCall(codec.encodeCall(call), call.timeoutMs)).toStrictEqual(call)
      }),
    )
  })

  it('carries every answer exactly', () => {
    fc.assert(
      fc.property(answers, (answer) => {
        expect(decodeWriteAnswer(codec.encodeAnswer(answer), answer.database)).toStrictEqual(answer)
      }),
    )
  })

  it('that is cut short or damaged is refused by name, never read beyond its end', () => {
    fc.assert(
      fc.property(calls, fc.nat(), fc.nat(255), (call, where, value) => {
        const bytes = codec.encodeCall(call)
        const cut = bytes.subarray(0, where % bytes.length)
        const changed = Buffer.from(bytes)
        changed[where % bytes.length] = value
        for (const damaged of [cut, changed]) {
          try {
            decodeCall(damaged, 1)
          } catch (error) {
            expect(['CORRUPT_DATA', 'INVALID_DATABASE_NAME']).toContain((error as { code: string }).code)
          }
        }
        expect(() => decodeCall(cut, 1)).toThrow()
      }),
    )
  })
})
