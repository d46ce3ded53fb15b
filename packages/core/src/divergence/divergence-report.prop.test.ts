/** What a report says is what was written into it; a request read back is the same request to the ledger. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { operations, plainValues } from '../forward/test-support/generated-values.ts'
import { type Checksum, checksum } from '../position/checksum.ts'
import { epoch } from '../position/epoch.ts'
import { type Txid, txid } from '../position/txid.ts'
import { OperationHasher } from '../request/operation-hash.ts'
import { plainFromJson, plainToJson } from '../request/plain-json.ts'
import { parseRequestId } from '../request/request-id.ts'
import {
  decodeReport,
  decodeRequestLine,
  type DivergenceReport,
  encodeReport,
  encodeRequestLine,
} from './divergence-report.ts'

const hasher = new OperationHasher()
const txids = fc.bigInt({ min: 1n, max: 2n ** 63n }).map((value): Txid => txid(value))
const checksums = fc.bigInt({ min: 2n ** 63n, max: 2n ** 64n - 1n }).map((value): Checksum => checksum(value))
const positions = fc.record({ txid: txids, checksum: checksums }, { noNullPrototype: true })
const maybe = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> => fc.option(arbitrary, { nil: undefined })
const timesMs = fc.integer({ min: 0, max: 4e12 })
const epochs = fc.nat().map(epoch)

test('a request comes back as the same request, over JSON text', () => {
  const ids = fc
    .uint8Array({ minLength: 16, maxLength: 16 })
    .map((bytes) => parseRequestId(Buffer.from(bytes).toString('hex')))
  const requests = fc.record({
    txid: txids,
    epoch: epochs,
    committedAtMs: timesMs,
    requestId: maybe(ids),
    idempotencyKey: maybe(fc.string({ unit: 'binary' })),
    operation: maybe(operations),
  })
  fc.assert(
    fc.property(requests, (request) => {
      const line = encodeRequestLine(request)
      expect(line).not.toContain('\n')
      const { operation, ...found } = decodeRequestLine(line, 'file')
      expect({ ...found }).toEqual({ ...request, operation: undefined, ...found })
      expect(operation && hasher.hash(operation)).toEqual(request.operation && hasher.hash(request.operation))
    }),
  )
})

test('a plain value comes back as the same value', () => {
  fc.assert(
    fc.property(plainValues, (value) => {
      const found = plainFromJson(JSON.parse(JSON.stringify(plainToJson(value))) as never)
      const hashOf = (input: typeof value): string => hasher.hash({ kind: 'procedure', name: 'p', input })
      expect(hashOf(found)).toBe(hashOf(value))
    }),
  )
})

test('a report comes back as it was written', () => {
  const reports: fc.Arbitrary<DivergenceReport> = fc.record(
    {
      id: fc.string(),
      database: fc.string(),
      foundAtMs: timesMs,
      kind: fc.constantFrom('parted' as const, 'changed' as const),
      reason: fc.string(),
      shared: maybe(positions),
      isExact: fc.boolean(),
      here: positions,
      hereEpoch: epochs,
      primary: maybe(positions),
      primaryEpoch: epochs,
      transactions: maybe(fc.record({ first: txids, last: txids }, { noNullPrototype: true })),
      missing: fc.nat(),
      requests: fc.nat(),
    },
    { noNullPrototype: true },
  )
  fc.assert(
    fc.property(reports, (report) => {
      const bytes = encodeReport(report)
      expect(decodeReport(bytes, 'file')).toEqual(report)
      expect(() => decodeReport(bytes.subarray(0, bytes.length / 2), 'the file')).toThrow('the file')
    }),
  )
})
