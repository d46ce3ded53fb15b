/** Values of every kind that crosses between nodes, for property tests. */
import * as fc from 'fast-check'
import type { AwaitLevel } from '../../request/await-level.ts'
import type { PlainValue } from '../../request/plain-value.ts'
import type { SqlParams, SqlValue } from '../../request/sql-value.ts'
import type { WriteOperation } from '../../request/write-request.ts'

/** Also strings that are not well-formed Unicode. */
const strings = fc.oneof(fc.string({ unit: 'binary' }), fc.string({ unit: 'grapheme' }), fc.constant('\ud800'))
const buffers = fc.uint8Array().map((bytes) => Buffer.from(bytes))
const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })

/** Objects like literals; fast-check also makes some without a prototype, which equal no decoded one. */
export function plainRecord<T extends object>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record(model, { noNullPrototype: true }) as fc.Arbitrary<T>
}

export const sqlValues: fc.Arbitrary<SqlValue> = fc.oneof(
  fc.constant(null),
  fc.double(),
  fc.integer(),
  int64,
  strings,
  buffers,
  fc.uint8Array(),
)

export const plainValues: fc.Arbitrary<PlainValue> = fc.letrec<{ value: PlainValue }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.constantFrom<PlainValue>(null, undefined, true, false, -0, Number.NaN),
    sqlValues,
    fc.bigInt(),
    fc.date({ noInvalidDate: false }),
    fc.array(tie('value')),
    fc.dictionary(strings, tie('value'), { noNullPrototype: true }) as fc.Arbitrary<PlainValue>,
  ),
})).value

export const levels: fc.Arbitrary<AwaitLevel> = fc.oneof(
  fc.constantFrom<AwaitLevel>('none', 'local', 'majority', 'all'),
  plainRecord({ replicas: fc.integer({ min: 1, max: 100 }) }),
)

const params: fc.Arbitrary<SqlParams | undefined> = fc.oneof(
  fc.constant(undefined),
  fc.array(sqlValues),
  fc.dictionary(strings, sqlValues, { noNullPrototype: true }),
)

export const operations: fc.Arbitrary<WriteOperation> = fc.oneof(
  plainRecord({ kind: fc.constant('procedure' as const), name: strings, input: plainValues }),
  plainRecord({
    kind: fc.constant('batch' as const),
    statements: fc.array(plainRecord({ sql: strings, params, safeIntegers: fc.boolean() })),
  }),
)
