/**
 * Another program that commits to a file and dies without closing it: `node foreign-commits.ts <file> <JSON of SQL statements>`.
 *
 * Plain better-sqlite3; each statement is a transaction. Then it kills itself, so that the WAL stays as it is, with the last commits in it.
 */
import Database from 'better-sqlite3'

const connection = new Database(process.argv[2] ?? '', { fileMustExist: true, timeout: 5_000 })
connection.pragma('wal_autocheckpoint = 0')
for (const sql of JSON.parse(process.argv[3] ?? '[]') as readonly string[]) connection.exec(sql)
process.kill(process.pid, 'SIGKILL')
