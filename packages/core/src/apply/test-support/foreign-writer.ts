/**
 * Another process that tries to write: `node foreign-writer.ts <path> <statement>…` runs each statement on a connection of
 * its own and prints SQLite's message, or `ok`, one line each.
 */
import { isSqliteError } from '../../sqlite/sqlite-error.ts'
import { SqliteDatabase } from '../../sqlite/sqlite-library.ts'

const [path = '', ...statements] = process.argv.slice(2)
for (const statement of statements) {
  const database = new SqliteDatabase(path, { timeout: 0 })
  try {
    database.exec(statement)
    process.stdout.write('ok\n')
  } catch (error) {
    if (!isSqliteError(error)) throw error
    process.stdout.write(`${error.message}\n`)
  } finally {
    database.close()
  }
}
