import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import Database from 'better-sqlite3'
import { beforeEach, expect, test } from 'vitest'
import { INSERT_TRANSFER, SELECT_CUSTOMER, SELECT_LAST_TEN } from './src/sql.ts'
import { parseCustomerId, parseTransfer } from './src/transfer.ts'

const migrations = path.join(import.meta.dirname, 'migrations')
let bank: Database.Database

beforeEach(() => {
  bank = new Database(':memory:')
  for (const file of readdirSync(migrations).sort()) bank.exec(readFileSync(path.join(migrations, file), 'utf8'))
})

function transfer(customer: number, amount: number, kind: 'c' | 'd', description = 'x'): void {
  bank.prepare(INSERT_TRANSFER).run({ customer, amount, kind, description })
}

test('five customers start with their limits and no balance', () => {
  const rows = bank.prepare('SELECT id, credit_limit, balance FROM customers ORDER BY id').raw().all()
  expect(rows).toEqual([
    [1, 100_000, 0],
    [2, 80_000, 0],
    [3, 1_000_000, 0],
    [4, 10_000_000, 0],
    [5, 500_000, 0],
  ])
})

test('a credit adds, a debit takes, down to the limit exactly', () => {
  transfer(1, 1, 'c')
  transfer(1, 100_001, 'd')
  expect(bank.prepare(SELECT_CUSTOMER).get(1)).toEqual({ limite: 100_000, saldo: -100_000 })
})

test('a debit beyond the limit is refused by the trigger and leaves nothing', () => {
  expect(() => transfer(2, 80_001, 'd')).toThrow(expect.objectContaining({ code: 'SQLITE_CONSTRAINT_TRIGGER' }))
  expect(bank.prepare(SELECT_CUSTOMER).get(2)).toEqual({ limite: 80_000, saldo: 0 })
  expect(bank.prepare('SELECT count(*) FROM transactions').pluck().get()).toBe(0)
})

test('a customer that does not exist is refused by the trigger', () => {
  expect(() => transfer(6, 1, 'c')).toThrow(expect.objectContaining({ code: 'SQLITE_CONSTRAINT_TRIGGER' }))
})

test('the statement shows the last ten, newest first', () => {
  for (let i = 1; i <= 12; i++) transfer(3, i, 'c', `n${i}`)
  const rows = bank.prepare(SELECT_LAST_TEN).all(3) as { valor: number; realizada_em: string }[]
  expect(rows.map((row) => row.valor)).toEqual([12, 11, 10, 9, 8, 7, 6, 5, 4, 3])
  expect(rows[0]?.realizada_em).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
})

test.each([
  null,
  'text',
  {},
  { valor: 1.2, tipo: 'c', descricao: 'x' },
  { valor: 0, tipo: 'c', descricao: 'x' },
  { valor: -1, tipo: 'c', descricao: 'x' },
  { valor: '1', tipo: 'c', descricao: 'x' },
  { valor: 1, tipo: 'x', descricao: 'x' },
  { valor: 1, tipo: 'c', descricao: '' },
  { valor: 1, tipo: 'c', descricao: 'elevenchars' },
  { valor: 1, tipo: 'c', descricao: null },
])('the body %j is refused', (body) => {
  expect(parseTransfer(1, body)).toBeUndefined()
})

test('a good body becomes a transfer, and ids are digits only', () => {
  const body = { valor: 1, tipo: 'd', descricao: 'tencharsss' }
  expect(parseTransfer(2, body)).toEqual({ customer: 2, amount: 1, kind: 'd', description: 'tencharsss' })
  expect([parseCustomerId('5'), parseCustomerId('-1'), parseCustomerId('1e3'), parseCustomerId('')]).toEqual([
    5,
    undefined,
    undefined,
    undefined,
  ])
})
