/** Another process that tries to write: `node foreign-writer.ts <path> <statement>` prints SQLite's message, or `ok`. */
import { isSqliteError } from '../../sqlite/sqlite-error.ts'
import { SqliteDatabase } from '../../sqlite/sqlite-library.ts'

const [path = '', statement = ''] = process.argv.slice(2)
const database = new SqliteDatabase(path, { timeout: 0 })
try {
  database.exec(statement)
  process.stdout.write('ok')
} catch (error) {
  if (!isSqliteError(error)) throw error
  process.stdout.write(`${error.code}: ${error.message}`)
} finally {
  database.close()
}
