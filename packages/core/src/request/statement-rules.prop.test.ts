import fc from 'fast-check'
import { expect, test } from 'vitest'
import { SqliteDatabase } from '../sqlite/sqlite-library.ts'
import { classifyRead, classifyStatement } from './statement-rules.ts'

const rule = (sql: string): string => classifyStatement(sql).kind

/**
 * SQLite itself as the judge: EXPLAIN shows the opcodes of a statement without running it. Whatever text is thrown at it, a
 * statement that SQLite compiles to one of these must have been caught by name.
 */
const FORBIDDEN_OPCODES = new Set(['AutoCommit', 'Savepoint', 'Vacuum', 'JournalMode', 'Checkpoint'])

interface Opcode {
  readonly opcode: string
  readonly p3: number
}

/** Asking for the journal mode is the opcode that sets it, with mode -1. */
const isForbidden = ({ opcode, p3 }: Opcode): boolean =>
  FORBIDDEN_OPCODES.has(opcode) && !(opcode === 'JournalMode' && p3 === -1)

test('no text that SQLite compiles to transaction control passes as plain', () => {
  const db = new SqliteDatabase(':memory:')
  db.exec('CREATE TABLE t(a)')
  const space = fc.constantFrom(
    '',
    ' ',
    '\t',
    '\n',
    '\r\n',
    '\f',
    '\v',
    '\u00a0',
    '\uFEFF',
    ';',
    '; ;',
    '--\n',
    '-- x\r',
    '/**/',
    '/*/',
    '/* ; */',
    '*/',
    '\0',
  )
  const words = fc.constantFrom(
    'BEGIN',
    'commit',
    'END',
    'ROLLBACK',
    'SAVEPOINT',
    'RELEASE',
    'VACUUM',
    'ATTACH',
    'SELECT',
    'EXPLAIN',
    'QUERY',
    'PLAN',
    'TO',
    's',
    'IMMEDIATE',
    'TRANSACTION',
    'INTO',
    'main',
    'PRAGMA',
    'journal_mode',
    'wal_checkpoint',
    '=',
    '(',
    ')',
    '.',
    "'x'",
    '"BEGIN"',
    '[BEGIN]',
    '1',
    '?',
    'AS',
    'WITH',
  )
  const text = fc.array(fc.tuple(space, words), { minLength: 1, maxLength: 5 }).map((parts) => parts.flat().join(''))
  const spaced = fc
    .array(fc.tuple(space, words), { minLength: 1, maxLength: 5 })
    .map((parts) => parts.map((part) => part.join('')).join(' '))
  let caught = 0
  fc.assert(
    fc.property(fc.oneof(text, spaced), (sql) => {
      let opcodes: Opcode[]
      try {
        // A pragma may act while it is prepared; the words above have none that could do harm.
        opcodes = db.prepare(`EXPLAIN ${sql.replace(/^[ \t\n\v\f\r\uFEFF;]+/, '')}`).all() as Opcode[]
      } catch {
        return // SQLite does not take it, so it cannot do anything
      }
      if (!opcodes.some(isForbidden)) return
      caught++
      expect([sql, rule(sql)]).not.toEqual([sql, 'plain'])
      expect([sql, classifyRead(sql).kind]).toEqual([sql, 'refused'])
    }),
    { numRuns: 8_000 },
  )
  expect(caught).toBeGreaterThan(50)
  db.close()
})

test('statements run through a real connection: what passes as plain never leaves or enters a transaction', () => {
  const db = new SqliteDatabase(':memory:')
  const space = fc.constantFrom('', ' ', '\n', '\f', '\uFEFF', ';', '--x\n', '/**/', '/* BEGIN */', "/*'*/", '\v', '\0')
  const verb = fc.constantFrom(
    'BEGIN',
    'BEGIN IMMEDIATE',
    'COMMIT',
    'END',
    'ROLLBACK',
    'SAVEPOINT a',
    'RELEASE a',
    'SELECT 1',
    'EXPLAIN BEGIN',
    'EXPLAIN QUERY PLAN COMMIT',
  )
  fc.assert(
    fc.property(
      fc.boolean(),
      fc.array(space, { maxLength: 4 }),
      verb,
      fc.array(space, { maxLength: 2 }),
      (inside, before, text, after) => {
        const sql = before.join('') + text + after.join('')
        if (db.inTransaction) db.exec('ROLLBACK')
        if (inside) db.exec('BEGIN')
        try {
          const statement = db.prepare(sql)
          if (statement.reader) statement.all()
          else statement.run()
        } catch {
          return
        }
        if (db.inTransaction !== inside) expect([sql, rule(sql)]).toEqual([sql, 'refused'])
      },
    ),
    { numRuns: 3_000 },
  )
  db.close()
})
