/**
 * Splits SQL text into its statements, as `sqlite3_complete()` tells them apart: a semicolon ends a statement, except inside
 * CREATE TRIGGER, which ends with `; END ;`. Comments and empty statements are dropped with what surrounds them.
 */
import { type SqlToken, SqlTokens } from './sql-tokens.ts'

export function splitStatements(sql: string): string[] {
  const tokens = new SqlTokens(sql)
  const statements: string[] = []
  let start = 0
  let words: SqlToken[] = []
  let isTrigger = false
  for (;;) {
    const token = tokens.next()
    if (token.kind === 'end') break
    if (token.kind !== 'symbol' || token.text !== ';') {
      if (words.length < 3) isTrigger ||= startsTrigger([...words, token])
      words.push(token)
      continue
    }
    const isOpen = isTrigger && !endsTrigger(words)
    words.push(token)
    if (isOpen) continue
    if (words.length > 1) statements.push(sql.slice(start, token.end - 1).trim())
    start = token.end
    words = []
    isTrigger = false
  }
  if (words.length > 0) statements.push(sql.slice(start).trim())
  return statements
}

function startsTrigger(words: readonly SqlToken[]): boolean {
  const [create, second, third] = words.map((word) => (word.kind === 'word' ? word.text.toUpperCase() : ''))
  if (create !== 'CREATE') return false
  return second === 'TRIGGER' || ((second === 'TEMP' || second === 'TEMPORARY') && third === 'TRIGGER')
}

/** The last two tokens before this semicolon are `;` and END. */
function endsTrigger(words: readonly SqlToken[]): boolean {
  const end = words.at(-1)
  const before = words.at(-2)
  return end?.kind === 'word' && end.text.toUpperCase() === 'END' && before?.kind === 'symbol' && before.text === ';'
}
