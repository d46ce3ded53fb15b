/**
 * Random changes to a database through the application's API: rows, large blobs, indexes, schema changes, VACUUM, batches
 * that fail in the middle, growth and shrinking.
 */
import type { Database } from '@litefleet/core'
import type { Random } from './random.ts'

export class RandomWorkload {
  readonly #database: Database
  readonly #random: Random
  readonly #name: string
  #tables = 0
  /** How many writes were acknowledged. */
  acknowledged = 0

  /** @param name keeps the tables of several workloads on one database apart */
  constructor(database: Database, random: Random, name: string) {
    this.#database = database
    this.#name = name
    this.#random = random
  }

  async begin(): Promise<void> {
    await this.#database.run('CREATE TABLE IF NOT EXISTS item (id INTEGER PRIMARY KEY, name TEXT, body BLOB)')
    await this.#database.run(
      'CREATE TABLE IF NOT EXISTS pair (id INTEGER PRIMARY KEY, a INTEGER, b INTEGER, CHECK (a + b = 0))',
    )
    await this.#database.run('INSERT OR IGNORE INTO pair VALUES (1, 0, 0)')
  }

  async step(): Promise<void> {
    const roll = this.#random.below(100)
    if (roll < 35) await this.#insertMany()
    else if (roll < 55) await this.#update()
    else if (roll < 68) await this.#deleteSome()
    else if (roll < 78) await this.#pair()
    else if (roll < 84) await this.#largeBlob()
    else if (roll < 90) await this.#schemaChange()
    else if (roll < 95) await this.#failInTheMiddle()
    else if (roll < 97) await this.#run('DELETE FROM item WHERE id % 2 = 0')
    else if (roll < 99) await this.#run('VACUUM')
    else await this.#run('PRAGMA incremental_vacuum(10)')
    this.acknowledged++
  }

  async #insertMany(): Promise<void> {
    const statements = []
    for (let i = this.#random.below(40) + 1; i > 0; i--) {
      statements.push({
        sql: 'INSERT INTO item (name, body) VALUES (?, ?)',
        params: [`name-${this.#random.below(1e9)}`, this.#random.bytes(this.#random.below(600))],
      })
    }
    await this.#database.batch(statements)
  }

  #update(): Promise<unknown> {
    return this.#database.run('UPDATE item SET name = name || ?, body = randomblob(?) WHERE id % ? = ?', [
      'x',
      this.#random.below(400),
      7,
      this.#random.below(7),
    ])
  }

  #deleteSome(): Promise<unknown> {
    return this.#database.run('DELETE FROM item WHERE id IN (SELECT id FROM item ORDER BY random() LIMIT ?)', [
      this.#random.below(30),
    ])
  }

  #pair(): Promise<unknown> {
    const value = this.#random.below(1000)
    return this.#database.batch([{ sql: 'UPDATE pair SET a = ?, b = ? WHERE id = 1', params: [value, -value] }])
  }

  #largeBlob(): Promise<unknown> {
    return this.#database.run('INSERT INTO item (name, body) VALUES (?, randomblob(?))', [
      'large',
      50_000 + this.#random.below(900_000),
    ])
  }

  async #schemaChange(): Promise<void> {
    const roll = this.#random.below(4)
    if (roll === 0) {
      this.#tables++
      await this.#run(`CREATE TABLE ${this.#name}_${this.#tables} (id INTEGER PRIMARY KEY, value TEXT)`)
      await this.#run(`INSERT INTO ${this.#name}_${this.#tables} (value) SELECT name FROM item LIMIT 50`)
    } else if (roll === 1) {
      await this.#run('CREATE INDEX IF NOT EXISTS item_name ON item (name)')
    } else if (roll === 2) {
      await this.#run('DROP INDEX IF EXISTS item_name')
    } else if (this.#tables > 0) {
      await this.#run(`DROP TABLE IF EXISTS ${this.#name}_${this.#random.below(this.#tables) + 1}`)
    }
  }

  async #failInTheMiddle(): Promise<void> {
    const attempt = this.#database.batch([
      { sql: 'INSERT INTO item (name) VALUES (?)', params: ['never'] },
      { sql: 'INSERT INTO pair VALUES (1, 1, 1)' },
    ])
    await attempt.then(
      () => {
        throw new Error('a batch that violates a constraint was acknowledged')
      },
      () => undefined,
    )
  }

  #run(sql: string): Promise<unknown> {
    return this.#database.run(sql)
  }
}
