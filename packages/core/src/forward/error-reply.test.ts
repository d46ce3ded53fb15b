import { describe, expect, it } from 'vitest'
import { InvariantError } from '../base/assert.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import { isSqliteError, makeSqliteError } from '../sqlite/sqlite-error.ts'
import { decodeFailure, encodeFailure } from './error-reply.ts'

const across = (error: unknown): unknown => decodeFailure(Buffer.from(encodeFailure(error)))

describe('an error of another node', () => {
  it('of the cluster arrives with code, outcome, details and hint, exactly', () => {
    const details = {
      result: {
        kind: 'batch',
        results: [{ changes: 1, lastInsertRowid: 2n ** 62n, rows: [{ b: Buffer.from('x'), n: null }] }],
      },
      position: { txid: 7n, checksum: 2n ** 63n },
      at: new Date(5),
      nothing: undefined,
    }
    const sent = new ClusterError('NOT_YET_VISIBLE', 'database "a": later\n  maybe', {
      details,
      hint: 'Wait.',
      cause: new Error('secret'),
    })
    const got = across(sent) as ClusterError
    expect(got).toBeInstanceOf(ClusterError)
    expect(got).toMatchObject({
      code: 'NOT_YET_VISIBLE',
      outcome: 'applied',
      retry: 'never',
      hint: 'Wait.',
      message: sent.message,
      summary: sent.summary,
    })
    expect(got.details).toStrictEqual(details)
    expect(got.cause).toBeUndefined()
  })

  it('keeps what can cross of details that cannot', () => {
    const loop: Record<string, unknown> = { name: 'loop' }
    loop['self'] = loop
    const sent = new ClusterError('STREAM_FAILED', 'x', {
      details: { a: 1, f: () => 2, s: Symbol('q'), e: new Error('inner'), m: new Map(), loop },
    })
    expect((across(sent) as ClusterError).details).toMatchObject({
      a: 1,
      s: 'Symbol(q)',
      e: 'inner',
      m: '[object Map]',
      loop: { name: 'loop' },
    })
  })

  it("of SQLite arrives as SQLite's own", () => {
    const got = across(makeSqliteError('SQLITE_CONSTRAINT_UNIQUE', 'UNIQUE constraint failed: t.a'))
    expect(isSqliteError(got)).toBe(true)
    expect(got).toMatchObject({
      code: 'SQLITE_CONSTRAINT_UNIQUE',
      message: 'UNIQUE constraint failed: t.a',
      name: 'SqliteError',
    })
  })

  it.each([
    [new TypeError('t'), TypeError, undefined],
    [Object.assign(new RangeError('r'), { code: 'E_RANGE' }), RangeError, 'E_RANGE'],
    [Object.assign(new Error('plain'), { code: 42 }), Error, 42],
  ])('of the application arrives with name, code and message: %s', (sent, Class, code) => {
    const got = across(sent) as Error & { code?: unknown }
    expect(got).toBeInstanceOf(Class)
    expect([got.name, got.message, got.code]).toEqual([sent.name, sent.message, code])
    expect('code' in got).toBe(code !== undefined)
  })

  it("of a class of the application's own keeps its name", () => {
    class InsufficientFunds extends Error {
      override readonly name = 'InsufficientFunds'
      readonly code = 'FUNDS'
    }
    const got = across(new InsufficientFunds('5 short')) as Error
    expect(got).toBeInstanceOf(Error)
    expect(got).toMatchObject({ name: 'InsufficientFunds', code: 'FUNDS', message: '5 short' })
    expect(Object.keys(got)).toEqual(['code'])
    expect(across(Object.assign(new Error('x'), { name: 'constructor' }))).toMatchObject({ name: 'constructor' })
  })

  it('that is no error arrives as the value that was thrown', () => {
    expect(across('text')).toBe('text')
    expect(across(undefined)).toBeUndefined()
    expect(across({ status: 409n })).toEqual({ status: 409n })
  })

  it('that is a broken assumption, or cannot be read, leaves the outcome unknown', () => {
    expect(across(new InvariantError('no hole'))).toMatchObject({
      code: 'WRITE_OUTCOME_UNKNOWN',
      summary: expect.stringContaining('no hole'),
    })
    expect(decodeFailure(Buffer.from([255, 3]))).toMatchObject({ code: 'WRITE_OUTCOME_UNKNOWN' })
    expect(decodeFailure(Buffer.alloc(0))).toMatchObject({ code: 'WRITE_OUTCOME_UNKNOWN' })
    const later = Buffer.from(encodeFailure(new ClusterError('CLOSED', 'x')))
    later.write('CLOSET', later.indexOf('CLOSED'))
    expect(decodeFailure(later)).toMatchObject({ code: 'WRITE_OUTCOME_UNKNOWN' })
  })
})
