import Database from 'better-sqlite3'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { INSERT_TRANSFER } from '../src/sql.ts'
import { parseDemoOptions } from './demo-options.ts'
import { WritePauses } from './failover.ts'
import { findFaults } from './final-check.ts'
import { LagMeter } from './lag-meter.ts'
import { Ledger } from './ledger.ts'
import { LiveTable } from './live-table.ts'

describe('flags', () => {
  test('no flag means three nodes for fifteen seconds', () => {
    expect(parseDemoOptions([])).toEqual({ seconds: 15, nodes: 3, failover: false, keep: false, json: undefined })
  })

  test('flags are taken, also after the dashes pnpm passes on', () => {
    const given = ['--', '--seconds', '5', '--nodes', '2', '--keep', '--json', 'x.json']
    expect(parseDemoOptions(given)).toEqual({ seconds: 5, nodes: 2, failover: false, keep: true, json: 'x.json' })
  })

  test('a failover needs a majority without the one that is killed, and some time', () => {
    expect(parseDemoOptions(['--failover'])).toMatchObject({ failover: true, nodes: 3 })
    for (const few of [
      ['--nodes', '2'],
      ['--seconds', '3'],
    ])
      expect(() => parseDemoOptions(['--failover', ...few])).toThrow()
  })

  test.each([['--seconds', '0'], ['--nodes', '1'], ['--nodes', '99'], ['--seconds', '1e2'], ['--colour'], ['extra']])(
    '%s %s is refused',
    (...given) => {
      expect(() => parseDemoOptions(given)).toThrow()
    },
  )
})

describe('pauses of writes', () => {
  test('counted from the kill on, between answers; what was slow before does not count', () => {
    const pauses = new WritePauses()
    pauses.answered(0, 900)
    pauses.killed(1_000)
    pauses.answered(990, 1_005)
    pauses.answered(995, 1_305)
    pauses.answered(1_300, 1_310)
    expect([pauses.pauseMs, pauses.slowestMs]).toEqual([300, 310])
  })
})

describe('lag', () => {
  test('a transaction is matched with the first moment of the replica at or beyond it', () => {
    const meter = new LagMeter(['lhr'])
    meter.primaryAdvanced([
      [1, 100],
      [2, 101],
      [3, 102],
    ])
    meter.replicaAdvanced('lhr', [
      [1, 101],
      [3, 105],
    ])
    // 1, 4 and 3 ms
    expect(meter.takeRecentMs('lhr')).toBe(3)
    expect(meter.percentileMs(99)).toBeCloseTo(4, 1)
    expect(meter.takeRecentMs('lhr')).toBeUndefined()
  })

  test('reports may arrive in any order', () => {
    const meter = new LagMeter(['lhr', 'nrt'])
    meter.replicaAdvanced('lhr', [[5, 12]])
    meter.primaryAdvanced([
      [4, 10],
      [5, 11],
      [6, 20],
    ])
    meter.replicaAdvanced('lhr', [[6, 25]])
    meter.replicaAdvanced('nrt', [[6, 30]])
    expect(meter.takeRecentMs('lhr')).toBe(2)
    expect(meter.takeRecentMs('nrt')).toBe(19)
  })
})

describe('table', () => {
  const row = {
    name: 'gru',
    role: 'primary',
    txid: '000000000000002a',
    lagMs: undefined,
    writesPerSecond: 9,
    readsPerSecond: 1,
  }

  test('a pipe gets one line each second', () => {
    const written: string[] = []
    const table = new LiveTable({ write: (text) => written.push(text) })
    table.draw(1, [row, { ...row, name: 'lhr', role: 'replica', lagMs: 0.5 }])
    expect(written).toEqual(['  1 s  gru primary 2a 9 w/s 1 r/s | lhr replica 2a 9 w/s 1 r/s lag 0.50 ms\n'])
  })

  test('a terminal gets the table redrawn in place', () => {
    const written: string[] = []
    const table = new LiveTable({ isTTY: true, write: (text) => written.push(text) })
    table.draw(1, [row])
    table.draw(2, [row])
    expect(written[0]).not.toContain('\u001b[')
    expect(written[1]?.startsWith('\u001b[3A\u001b[J')).toBe(true)
    expect(written[1]).toContain('000000000000002a')
  })
})

describe('final check', () => {
  let directory = ''
  let bank: Database.Database
  const transfer = { customer: 1, amount: 5, kind: 'c', description: 'x' } as const

  beforeEach(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'litefleet-check-'))
    bank = new Database(path.join(directory, 'bank.db'))
    const migrations = path.resolve(import.meta.dirname, '../migrations')
    for (const file of readdirSync(migrations).sort()) bank.exec(readFileSync(path.join(migrations, file), 'utf8'))
    bank.prepare(INSERT_TRANSFER).run(transfer)
  })
  afterEach(() => {
    bank.close()
    rmSync(directory, { recursive: true })
  })

  const node = (position: string) => ({ name: 'gru', databasePath: path.join(directory, 'bank.db'), position })

  test('equal books and positions are no fault', () => {
    const ledger = new Ledger([1])
    ledger.accept(transfer)
    expect(findFaults([node('1/a'), node('1/a')], ledger)).toEqual([])
  })

  test('a transfer the bank does not have, another position, a request that went wrong: each is a fault', () => {
    const ledger = new Ledger([1])
    ledger.accept(transfer)
    ledger.accept({ ...transfer, kind: 'd' })
    ledger.problem('500')
    const faults = findFaults([node('1/a'), node('1/b')], ledger).join('\n')
    expect(faults).toContain('1 requests went wrong, first: 500')
    expect(faults).toContain('positions differ: gru 1/a, gru 1/b')
    expect(faults).toContain('customer 1 has 5, the ledger 0')
    expect(faults).toContain('1 transactions, the ledger has 2')
  })

  test('a balance that does not match its transactions is a fault', () => {
    bank.exec('UPDATE customers SET balance = 7 WHERE id = 2')
    const ledger = new Ledger([1, 2])
    ledger.accept(transfer)
    ledger.accept({ ...transfer, customer: 2, amount: 7 })
    expect(findFaults([node('1/a')], ledger).join('\n')).toContain('transactions of 2 sum up to 0, not 7')
  })
})
