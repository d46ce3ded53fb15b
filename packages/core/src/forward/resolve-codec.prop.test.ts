import * as fc from 'fast-check'
import { expect, it } from 'vitest'
import { decodeResolve, decodeResolveAnswer, encodeResolve, encodeResolveAnswer } from './resolve-codec.ts'
import { answers, requestIds } from './test-support/generated-values.ts'
import { TEST_DATABASE } from './test-support/test-node.ts'
import type { ResolveAnswer } from './write-call.ts'

const resolved: fc.Arbitrary<ResolveAnswer> = fc
  .tuple(answers, fc.nat(2))
  .map(([{ result, position, epoch }, what]) => {
    if (what === 0) return { outcome: 'not-applied', position, epoch }
    return { outcome: 'applied', result: what === 1 ? undefined : result, position, epoch }
  })

it('every question and every answer arrives as it was given', () => {
  fc.assert(
    fc.property(requestIds, resolved, (requestId, answer) => {
      const question = { database: TEST_DATABASE, requestId, timeoutMs: 7 }
      expect(decodeResolve(encodeResolve(question), 7)).toStrictEqual(question)
      expect(decodeResolveAnswer(encodeResolveAnswer(answer))).toStrictEqual(answer)
    }),
  )
})

it('what is cut short or damaged is refused, never read beyond its end', () => {
  fc.assert(
    fc.property(requestIds, resolved, fc.nat(), fc.nat(255), (requestId, answer, where, value) => {
      const question = encodeResolve({ database: TEST_DATABASE, requestId, timeoutMs: 7 })
      const bytes = encodeResolveAnswer(answer)
      expect(() => decodeResolve(question.subarray(0, where % question.length), 7)).toThrow()
      expect(() => decodeResolveAnswer(bytes.subarray(0, where % bytes.length))).toThrow()
      for (const [original, decode] of [
        [question, decodeResolve],
        [bytes, decodeResolveAnswer],
      ] as const) {
        const changed = Buffer.from(original)
        changed[where % changed.length] = value
        try {
          decode(changed, 7)
        } catch (error) {
          const { code, name } = error as { code?: string; name: string }
          expect(['CORRUPT_DATA', 'INVALID_DATABASE_NAME', 'RangeError']).toContain(code ?? name)
        }
      }
    }),
  )
})
