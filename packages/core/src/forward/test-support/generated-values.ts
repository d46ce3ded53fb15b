/** Values of every kind that crosses between nodes, for property tests. */
import * as fc from 'fast-check'
import { checksum } from '../../position/checksum.ts'
import { epoch } from '../../position/epoch.ts'
import { txid } from '../../position/txid.ts'
import type { AwaitLevel } from '../../request/await-level.ts'
import type { PlainValue } from '../../request/plain-value.ts'
import { databaseName } from '../../request/database-name.ts'
import type { RequestId } from '../../request/request-id.ts'
import type { SqlParams, SqlValue } from '../../request/sql-value.ts'
import type { WriteOperation } from '../../request/write-request.ts'
import type { WriteAnswer } from '../write-call.ts'

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

export const requestIds = fc
  .uint8Array({ minLength: 16, maxLength: 16 })
  .map((bytes) => Buffer.from(bytes).toString('hex') as RequestId)

const rows = fc
  .uniqueArray(fc.string({ unit: 'binary' }), { maxLength: 5 })
  .chain((columns) =>
    fc.array(
      fc
        .tuple(...columns.map(() => sqlValues))
        .map((values) => Object.fromEntries(columns.map((name, i) => [name, values[i]!]))),
    ),
  )

export const answers: fc.Arbitrary<WriteAnswer> = plainRecord({
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
  database: fc.constant(databaseName('app.db')),
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
