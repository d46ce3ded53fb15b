/**
 * What an application sees of a fleet: reads here, writes anywhere, errors as at home.
 *
 * Real: three nodes in one process, each with its own files and sockets.
 */
import { ClusterError, isClusterError, openCluster } from '@litefleet/core'
import { TestCluster } from '@litefleet/core/testing'
import BetterSqlite3 from 'better-sqlite3'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

let cluster: TestCluster
const NAME = 'app.db'
const SCHEMA = `
  CREATE TABLE account (id INTEGER PRIMARY KEY, name TEXT UNIQUE, cents INTEGER NOT NULL, rate REAL, photo BLOB);
  CREATE TRIGGER no_debt BEFORE UPDATE ON account WHEN new.cents < 0 BEGIN SELECT RAISE(ABORT, 'no debt'); END;
  CREATE TRIGGER all_or_nothing BEFORE INSERT ON account WHEN new.name = 'rollback' BEGIN SELECT RAISE(ROLLBACK, 'everything back'); END;
  CREATE TABLE child (id INTEGER PRIMARY KEY, account INTEGER REFERENCES account DEFERRABLE INITIALLY DEFERRED);
`
const migrations = [{ name: '001-schema', sql: SCHEMA }]

beforeAll(async () => {
  cluster = await TestCluster.start({ nodes: 3 })
  for (const node of cluster.nodes) await node.database(NAME, { migrations })
})
afterAll(() => cluster.close())

const handle = (index: number) => cluster.node(index).database(NAME)

async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => expect.unreachable('it was accepted'),
    (error: unknown) => error,
  )
}

describe('a write from any node', () => {
  it('is visible to the next read on the node that asked', async () => {
    for (const index of [0, 1, 2]) {
      const database = await handle(index)
      for (let i = 0; i < 20; i++) {
        const { lastInsertRowid } = await database.run('INSERT INTO account (name, cents) VALUES (?, ?)', [
          `visible-${index}-${i}`,
          i,
        ])
        expect(database.prepare('SELECT cents FROM account WHERE id = ?').pluck().get(lastInsertRowid)).toBe(i)
      }
    }
  })

  it('answers exactly what better-sqlite3 answers locally', async () => {
    const local = new BetterSqlite3(':memory:')
    local.exec(SCHEMA)
    const sql =
      'INSERT INTO account (name, cents, rate, photo) VALUES (?, ?, ?, ?) RETURNING name, cents, rate, photo, typeof(cents) AS kind, typeof(rate) AS ratekind'
    const params = ['Zoë 🦊', 9007199254740993n, 0.1, Buffer.from([0, 1, 255])]
    for (const safeIntegers of [false, true]) {
      const expected = local
        .prepare(sql)
        .safeIntegers(safeIntegers)
        .all(...params)
      for (const index of [0, 2]) {
        const database = await handle(index)
        const answer = await database.batch([{ sql, params, safeIntegers }])
        expect(answer.results[0]?.rows).toEqual(expected)
        expect(answer.results[0]?.changes).toBe(1)
        await database.run('DELETE FROM account WHERE name = ?', ['Zoë 🦊'])
      }
      local.exec('DELETE FROM account')
    }
  })

  it('keeps the difference between a number and an integer, null, text and blob', async () => {
    const database = await handle(1)
    const { rows } = await database.run('SELECT typeof(?) a, typeof(?) b, typeof(?) c, typeof(?) d, typeof(?) e', [
      1,
      1n,
      null,
      'x',
      new Uint8Array(0),
    ])
    expect(rows).toEqual([{ a: 'real', b: 'integer', c: 'null', d: 'text', e: 'blob' }])
  })

  it('reaches the level it asked for, and says so', async () => {
    for (const index of [0, 1]) {
      const database = await handle(index)
      const write = (level: 'none' | 'local' | 'all' | { replicas: number }) =>
        database.run('UPDATE account SET rate = 1 WHERE id = 1', [], { await: level })
      expect((await write('none')).level).toBe('none')
      expect((await write('local')).level).toBe('local')
      expect((await write({ replicas: 2 })).level).toEqual({ replicas: 2 })
      const all = await write('all')
      expect(all.level).toBe('all')
      for (const other of await cluster.database(NAME))
        expect(other.position.txid).toBeGreaterThanOrEqual(all.position.txid)
    }
  })

  it('that asks for more replicas than there are is applied, and says how far it came', async () => {
    const database = await handle(1)
    const error = await failureOf(
      database.run("INSERT INTO account (name, cents) VALUES ('three-replicas', 3)", [], {
        await: { replicas: 3 },
        timeoutMs: 4_000,
      }),
    )
    expect(error).toBeInstanceOf(ClusterError)
    expect(error).toMatchObject({ code: 'NOT_YET_VISIBLE', outcome: 'applied', retry: 'never' })
    expect((error as ClusterError).details).toMatchObject({
      result: { results: [{ changes: 1 }] },
      level: { replicas: 2 },
    })
    await cluster.settle(NAME)
    expect(database.prepare("SELECT cents FROM account WHERE name = 'three-replicas'").pluck().get()).toBe(3)
  })

  it('with "majority" is refused, because there are no voters, and nothing happened', async () => {
    const database = await handle(2)
    const before = database.position
    const error = await failureOf(database.run('DELETE FROM account', [], { await: 'majority' }))
    expect(error).toMatchObject({ code: 'AWAIT_LEVEL_REFUSED', outcome: 'not-applied' })
    expect(database.position).toEqual(before)
  })

  it('under an idempotency key takes effect once, from whichever node it is repeated', async () => {
    const sql = 'INSERT INTO account (name, cents) VALUES (?, 1) RETURNING id'
    const options = { idempotencyKey: 'order-4711' }
    const first = await (await handle(1)).run(sql, ['idempotent'], options)
    const again = await (await handle(2)).run(sql, ['idempotent'], options)
    const here = await (await handle(0)).run(sql, ['idempotent'], options)
    expect(first.replayed).toBe(false)
    expect(again).toMatchObject({ replayed: true, rows: first.rows, changes: 1 })
    expect(here).toMatchObject({ replayed: true, rows: first.rows })
    const other = await failureOf((await handle(2)).run(sql, ['something else'], options))
    expect(other).toMatchObject({ code: 'REQUEST_ID_REUSED', outcome: 'not-applied' })
  })

  it('that times out in no queue leaves nothing behind', async () => {
    const database = await handle(1)
    const error = await failureOf(database.run('DELETE FROM account', [], { timeoutMs: 0.5 }))
    expect(error).toMatchObject({ code: 'INVALID_OPTION' })
    expect(database.prepare('SELECT count(*) FROM account').pluck().get()).toBeGreaterThan(0)
  })
})

describe("SQLite's errors", () => {
  it('cross the network with code and message, as instances of SqliteError', async () => {
    await (await handle(0)).run("INSERT OR IGNORE INTO account (id, name, cents) VALUES (1, 'first', 0)")
    for (const index of [0, 1]) {
      const database = await handle(index)
      const unique = await failureOf(
        database.run('INSERT INTO account (name, cents) SELECT name, 1 FROM account WHERE id = 1'),
      )
      expect(unique).toBeInstanceOf(BetterSqlite3.SqliteError)
      expect(unique).toMatchObject({
        code: 'SQLITE_CONSTRAINT_UNIQUE',
        message: 'UNIQUE constraint failed: account.name',
      })
      const aborted = await failureOf(database.run('UPDATE account SET cents = -1 WHERE id = 1'))
      expect(aborted).toMatchObject({ code: 'SQLITE_CONSTRAINT_TRIGGER', message: 'no debt' })
      const syntax = await failureOf(database.run('SELEKT 1'))
      expect(syntax).toMatchObject({ code: 'SQLITE_ERROR', message: 'near "SELEKT": syntax error' })
    }
  })

  it('of one request leave the others of its group alone, RAISE(ROLLBACK) and deferred keys included', async () => {
    const database = await handle(1)
    const results = await Promise.allSettled([
      database.run("INSERT INTO account (name, cents) VALUES ('group-1', 1)"),
      database.run("INSERT INTO account (name, cents) VALUES ('rollback', 1)"),
      database.run("INSERT INTO account (name, cents) VALUES ('group-2', 1)"),
      database.run('INSERT INTO child (account) VALUES (987654)'),
      database.run("INSERT INTO account (name, cents) VALUES ('group-3', 1)"),
    ])
    expect(results.map((result) => result.status)).toEqual([
      'fulfilled',
      'rejected',
      'fulfilled',
      'rejected',
      'fulfilled',
    ])
    expect(database.prepare("SELECT count(*) FROM account WHERE name LIKE 'group-%'").pluck().get()).toBe(3)
    expect(results[3]).toMatchObject({ reason: { code: 'SQLITE_CONSTRAINT_FOREIGNKEY' } })
  })
})

describe('a local handle', () => {
  it('refuses to write, and says how to', async () => {
    const database = await handle(1)
    for (const sql of ['INSERT INTO account (name) VALUES (1)', 'UPDATE account SET cents = 1', 'CREATE TABLE x (y)']) {
      expect(() => database.prepare(sql)).toThrow(/WRITE_ON_READ_HANDLE[\s\S]*db\.run/)
    }
    for (const sql of ['BEGIN', 'COMMIT', "ATTACH 'x' AS y", 'PRAGMA journal_mode = DELETE', 'SAVEPOINT a']) {
      expect(() => database.prepare(sql)).toThrow(/STATEMENT_REFUSED/)
    }
  })

  it('reads in all the shapes of better-sqlite3', async () => {
    const database = await handle(2)
    await database.batch([
      { sql: 'CREATE TABLE IF NOT EXISTS shape (id INTEGER PRIMARY KEY, value TEXT)' },
      { sql: "INSERT OR REPLACE INTO shape VALUES (1, 'a'), (2, 'b')" },
    ])
    const sql = 'SELECT id, value FROM shape ORDER BY id'
    expect(database.prepare(sql).all()).toEqual([
      { id: 1, value: 'a' },
      { id: 2, value: 'b' },
    ])
    expect(database.prepare(sql).raw().all()).toEqual([
      [1, 'a'],
      [2, 'b'],
    ])
    expect(database.prepare(sql).pluck().all()).toEqual([1, 2])
    expect(database.prepare(sql).safeIntegers().get()).toEqual({ id: 1n, value: 'a' })
    expect([...database.prepare(sql).iterate()]).toHaveLength(2)
    expect(database.prepare('SELECT value FROM shape WHERE id = @id').pluck().get({ id: 2 })).toBe('b')
    expect(
      database
        .prepare(sql)
        .columns()
        .map((column) => column.name),
    ).toEqual(['id', 'value'])
  })

  it('an iterator keeps its state while writes go on, and a read transaction sees one state', async () => {
    const database = await handle(1)
    await cluster.settle(NAME)
    const iterator = database.prepare('SELECT value FROM shape ORDER BY id').pluck().iterate()
    expect(iterator.next().value).toBe('a')
    await database.run("UPDATE shape SET value = 'changed'")
    expect(iterator.next().value).toBe('b')
    expect(iterator.next().done).toBe(true)
    expect(database.readTransaction((read) => read.prepare('SELECT DISTINCT value FROM shape').pluck().all())).toEqual([
      'changed',
    ])
  })
})

describe('procedures and functions', () => {
  it('run in one transaction at the primary and give back what they return', async () => {
    const procedures = await Promise.all(
      cluster.nodes.map(async (node) =>
        node.procedure('transfer', {
          database: await node.database(NAME),
          run(tx, input: { from: string; to: string; cents: number }) {
            tx.run('UPDATE account SET cents = cents - ? WHERE name = ?', [input.cents, input.from])
            tx.run('UPDATE account SET cents = cents + ? WHERE name = ?', [input.cents, input.to])
            return { moved: input.cents, at: new Date(0), big: 2n ** 62n, none: undefined }
          },
        }),
      ),
    )
    await (await handle(0)).run("INSERT INTO account (name, cents) VALUES ('from', 100), ('to', 0)")
    expect(await procedures[1]!({ from: 'from', to: 'to', cents: 30 })).toEqual({
      moved: 30,
      at: new Date(0),
      big: 2n ** 62n,
      none: undefined,
    })
    const refused = await failureOf(procedures[2]!({ from: 'from', to: 'to', cents: 1000 }))
    expect(refused).toMatchObject({ code: 'SQLITE_CONSTRAINT_TRIGGER', message: 'no debt' })
    await cluster.settle(NAME)
    const balances = (await handle(2))
      .prepare("SELECT cents FROM account WHERE name IN ('from', 'to') ORDER BY name")
      .pluck()
      .all()
    expect(balances).toEqual([70, 30])
  })

  it('that return a promise, or throw, are rolled back and say so on the calling node', async () => {
    const [, calling] = await Promise.all(
      cluster.nodes.map(async (node) =>
        node.procedure('careless', {
          database: await node.database(NAME),
          run(tx, how: string) {
            tx.run("INSERT INTO account (name, cents) VALUES ('careless', 1)")
            if (how === 'throw') throw Object.assign(new TypeError('on purpose'), { code: 'E_PURPOSE' })
            return Promise.resolve(1) as unknown as number
          },
        }),
      ),
    )
    expect(await failureOf(calling!('promise'))).toMatchObject({ code: 'ASYNC_PROCEDURE', outcome: 'not-applied' })
    expect(await failureOf(calling!('throw'))).toMatchObject({
      name: 'TypeError',
      message: 'on purpose',
      code: 'E_PURPOSE',
    })
    expect((await handle(1)).prepare("SELECT count(*) FROM account WHERE name = 'careless'").pluck().get()).toBe(0)
  })

  it('rpc reaches the primary, a region, a node by name', async () => {
    const functions = cluster.nodes.map((node) =>
      node.remoteFunction('where', async (input: string, { caller }) => ({ ran: node.node.name, caller, input })),
    )
    const [gru, lhr] = cluster.nodes
    expect(await lhr!.rpc.primary(functions[1]!, 'x')).toEqual({ ran: 'node-0', caller: 'node-1', input: 'x' })
    await expect
      .poll(() => lhr!.rpc.region('nrt', functions[1]!, 'y').catch(() => undefined), { timeout: 5_000 })
      .toMatchObject({ ran: 'node-2' })
    expect(await gru!.rpc.node('node-1', functions[0]!, 'z')).toMatchObject({ ran: 'node-1', caller: 'node-0' })
    expect(await failureOf(gru!.rpc.node('nobody', functions[0]!, '', { timeoutMs: 200 }))).toMatchObject({
      code: 'NO_SUCH_NODE',
    })
  })
})

describe('migrations', () => {
  it('run once, on the primary; a changed text is refused; replicas wait for what is missing', async () => {
    const applied = (await handle(2)).prepare('SELECT name FROM _litefleet_migration').pluck().all()
    expect(applied).toEqual(['001-schema'])
    const late = await TestCluster.start({ nodes: 2 })
    try {
      const list = [{ name: '001', sql: 'CREATE TABLE a (b)' }]
      await late.primary.database('late.db', { migrations: list })
      const more = [...list, { name: '002', sql: 'CREATE TABLE c (d); CREATE TABLE e (f);' }]
      const gated = late.node(1).database('late.db', { migrations: more, timeoutMs: 10_000 })
      const httpPort = Number(new URL(late.primary.addresses.http).port)
      await late.stopNode(0)
      await late.startNode(0, { listen: { httpPort } })
      expect(
        await failureOf(
          late.primary.database('late.db', { migrations: [{ name: '001', sql: 'CREATE TABLE other (b)' }] }),
        ),
      ).toMatchObject({
        code: 'MIGRATION_FAILED',
      })
      await late.primary.database('late.db', { migrations: more })
      expect((await gated).prepare("SELECT count(*) FROM sqlite_schema WHERE name IN ('c', 'e')").pluck().get()).toBe(2)
      const third = await late.startNode(2)
      const missing = await failureOf(
        third.database('late.db', { migrations: [...more, { name: '003', sql: 'SELECT 1' }], timeoutMs: 500 }),
      )
      expect(missing).toMatchObject({ code: 'SCHEMA_NOT_READY' })
    } finally {
      await late.close()
    }
  })
})

describe('bad input is refused by name', () => {
  it('unknown options, with the nearest known one', async () => {
    const given = { dataDir: '/nowhere', lease: { kind: 'static', primary: true }, regoin: 'x', node: {} } as never
    expect(await failureOf(openCluster(given))).toMatchObject({ code: 'INVALID_OPTION' })
    const near = { dataDir: '/nowhere', lease: { kind: 'static', primary: true }, dataDri: 'x' } as never
    expect((await failureOf(openCluster(near))) as Error).toMatchObject({ hint: 'Did you mean "dataDir"?' })
    const database = await handle(1)
    expect(await failureOf(database.run('SELECT 1', [], { awiat: 'none' } as never))).toMatchObject({
      hint: 'Did you mean "await"?',
    })
  })

  it('a listener beyond loopback without a key', async () => {
    const error = await failureOf(
      openCluster({
        dataDir: `${cluster.directory}/open`,
        lease: { kind: 'static', primary: true },
        listen: { host: '0.0.0.0' },
      }),
    )
    expect(error).toMatchObject({ code: 'INSECURE_LISTENER' })
  })

  it('a data directory that a live node owns', async () => {
    const error = await failureOf(
      openCluster({ dataDir: cluster.dataDirOf(0), lease: { kind: 'static', primary: true } }),
    )
    expect(isClusterError(error, 'DATA_DIR_IN_USE')).toBe(true)
  })

  it('database names that LiteFS could not hold', async () => {
    for (const name of ['', '../up', '.hidden', 'a/b', 'x-wal', 'x-pos']) {
      expect(await failureOf(cluster.primary.database(name))).toMatchObject({ code: 'INVALID_DATABASE_NAME' })
    }
  })

  it('statements that belong to the cluster, each by its word', async () => {
    const database = await handle(1)
    for (const sql of [
      'BEGIN',
      'COMMIT',
      'END',
      'ROLLBACK',
      'SAVEPOINT a',
      'RELEASE a',
      "ATTACH 'x' AS y",
      'DETACH y',
      'CREATE TEMP TABLE t (a)',
      'PRAGMA journal_mode = DELETE',
      'PRAGMA synchronous = OFF',
    ]) {
      expect(await failureOf(database.run(sql))).toMatchObject({ code: 'STATEMENT_REFUSED', outcome: 'not-applied' })
    }
  })
})
