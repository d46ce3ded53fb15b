/**
 * A workload whose every version can be checked by a reader: transfers between accounts keep the sum, each transfer counts
 * up the version by one, and an index must agree with its table.
 */
import type { Connection } from '../../sqlite/connection.ts'

export const ACCOUNTS = 400
export const TOTAL = ACCOUNTS * 100

export function createBank(database: Connection): void {
  database.exec(`
    CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER, note TEXT);
    CREATE INDEX account_note ON account (note);
    CREATE TABLE version (v INTEGER);
    INSERT INTO version VALUES (0);
  `)
  const insert = database.prepare("INSERT INTO account VALUES (?, 100, 'note' || ?)")
  for (let id = 1; id <= ACCOUNTS; id++) insert.run(id, id)
}

/** Transfer number `n`: a few rows, now and then a row more or fewer, large values, a VACUUM. */
export function transfer(database: Connection, n: number): void {
  database.transaction(() => {
    const from = ((n * 7919) % ACCOUNTS) + 1
    const to = ((n * 104729 + 3) % ACCOUNTS) + 1
    database.prepare('UPDATE account SET balance = balance - ? WHERE id = ?').run(n % 10, from)
    database.prepare('UPDATE account SET balance = balance + ? WHERE id = ?').run(n % 10, to)
    database.prepare("UPDATE account SET note = 'n' || ? WHERE id = ?").run(n, from)
    if (n % 5 === 0) {
      database.prepare('INSERT INTO account VALUES (?, 0, ?)').run(ACCOUNTS + n, 'x'.repeat((n * 37) % 9000))
    }
    if (n % 40 === 0) database.prepare('DELETE FROM account WHERE id > ?').run(ACCOUNTS)
    database.exec('UPDATE version SET v = v + 1')
  })()
  if (n % 60 === 0) database.exec('VACUUM')
}

/** What is wrong with the version a reader sees, in one read transaction; `undefined` when nothing is. Also its number. */
export function inspectBank(database: Connection, pause: () => void): { version: number; problem: string | undefined } {
  const number = (sql: string): number => Number(database.prepare(sql).pluck().get())
  database.exec('BEGIN')
  try {
    const version = number('SELECT v FROM version')
    const even = number('SELECT sum(balance) FROM account WHERE id % 2 = 0')
    pause()
    const odd = number('SELECT sum(balance) FROM account WHERE id % 2 = 1')
    const inTable = number('SELECT count(*) FROM account NOT INDEXED')
    const inIndex = number("SELECT count(*) FROM account INDEXED BY account_note WHERE note >= ''")
    const again = number('SELECT v FROM version')
    const problems: string[] = []
    if (even + odd !== TOTAL) problems.push(`sum ${even + odd}`)
    if (inTable !== inIndex) problems.push(`${inTable} rows in the table, ${inIndex} in the index`)
    if (again !== version) problems.push(`version ${version}, then ${again}`)
    return { version, problem: problems.length === 0 ? undefined : problems.join('; ') }
  } finally {
    database.exec('COMMIT')
  }
}
