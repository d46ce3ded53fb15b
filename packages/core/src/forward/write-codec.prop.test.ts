import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeCall, decodeWriteAnswer, WriteCodec } from './write-codec.ts'
import { TEST_DATABASE } from './test-support/test-node.ts'
import type { WriteCall } from './write-call.ts'
import { answers, levels, operations, plainRecord, requestIds } from './test-support/generated-values.ts'

const calls: fc.Arbitrary<WriteCall> = plainRecord({
  database: fc.constant(TEST_DATABASE),
  operation: operations,
  requestId: fc.option(requestIds, { nil: undefined }),
  idempotencyKey: fc.option(fc.string({ unit: 'binary' }), { nil: undefined }),
  await: levels,
  timeoutMs: fc.constant(1_234),
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
