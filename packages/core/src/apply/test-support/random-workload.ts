/** Random changes of every kind that moves pages about, repeatable from a seed. */
import type { Connection } from '../../sqlite/connection.ts'

/** A small generator of random numbers (mulberry32). */
export class SeededRandom {
  #state: number

  constructor(seed: number) {
    this.#state = seed | 0
  }

  /** A whole number in [0, limit). */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let t = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) % limit
  }
}

export class RandomWorkload {
  readonly #random: SeededRandom
  readonly #tables: string[] = []

  constructor(random: SeededRandom) {
    this.#random = random
  }

  /** What every other step needs. */
  begin(database: Connection): void {
    database.exec(`
      CREATE TABLE base (id INTEGER PRIMARY KEY, a TEXT, b BLOB);
      CREATE INDEX base_a ON base (a);
      CREATE VIRTUAL TABLE words USING fts5 (word);
    `)
  }

  /** One step; it may also change nothing. */
  step(database: Connection): void {
    const steps: readonly (() => void)[] = [
      () => this.#insert(database, 30, 300),
      () => this.#insert(database, 30, 300),
      () => this.#insert(database, 6, 9000),
      () => this.#insert(database, 1, 200_000),
      () => this.#update(database),
      () => this.#update(database),
      () => this.#deleteSome(database),
      () => database.exec('DELETE FROM base WHERE id % 4 <> 0'),
      () => this.#createOrDrop(database),
      () => this.#createOrDrop(database),
      () => this.#addColumn(database),
      () => this.#rollBack(database),
      () => this.#savepoint(database),
      () => database.exec('VACUUM'),
      () => database.pragma(`incremental_vacuum(${this.#random.below(40)})`),
      () => database.prepare('INSERT INTO words VALUES (?)').run(`word ${this.#random.below(1000)}`),
      () => database.pragma(`user_version = ${this.#random.below(1_000_000)}`),
      () => database.pragma('wal_checkpoint(TRUNCATE)'),
    ]
    steps[this.#random.below(steps.length)]!()
  }

  #insert(database: Connection, rows: number, bytes: number): void {
    const insert = database.prepare('INSERT INTO base (a, b) VALUES (?, randomblob(?))')
    database.transaction(() => {
      for (let i = this.#random.below(rows); i >= 0; i--) {
        insert.run(`key ${this.#random.below(10_000)}`, this.#random.below(bytes))
      }
    })()
  }

  #update(database: Connection): void {
    const every = 2 + this.#random.below(20)
    database.prepare('UPDATE base SET b = randomblob(?), a = a || ? WHERE id % ? = 0').run(every * 90, '!', every)
  }

  #deleteSome(database: Connection): void {
    database.prepare('DELETE FROM base WHERE id % ? = 1').run(2 + this.#random.below(20))
  }

  #createOrDrop(database: Connection): void {
    if (this.#tables.length < 6) {
      const name = `extra${this.#random.below(1_000_000)}_${this.#tables.length}`
      database.exec(`CREATE TABLE ${name} (a, b, c); CREATE INDEX ${name}_b ON ${name} (b)`)
      database.exec(`INSERT INTO ${name} SELECT a, id, substr(b, 1, 200) FROM base LIMIT 20`)
      this.#tables.push(name)
    } else {
      const [name] = this.#tables.splice(this.#random.below(this.#tables.length), 1)
      database.exec(`DROP TABLE ${name}`)
    }
  }

  #addColumn(database: Connection): void {
    const name = this.#tables.at(-1)
    if (name === undefined) return
    const count = database.prepare(`PRAGMA table_info(${name})`).all().length
    database.exec(`ALTER TABLE ${name} ADD COLUMN added${count} DEFAULT 'q'`)
  }

  /** Large enough to spill into the WAL before it is rolled back. */
  #rollBack(database: Connection): void {
    database.exec('BEGIN; UPDATE base SET b = randomblob(3000); ROLLBACK')
  }

  #savepoint(database: Connection): void {
    database.exec(`
      BEGIN;
      UPDATE base SET b = randomblob(700) WHERE id % 5 = 0;
      SAVEPOINT s; UPDATE base SET b = randomblob(2500) WHERE id % 3 = 0; ROLLBACK TO s;
      UPDATE base SET a = a || '?' WHERE id % 7 = 0;
      COMMIT
    `)
  }
}
