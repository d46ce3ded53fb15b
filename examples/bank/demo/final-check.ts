/**
 * What must be true when the load has ended, on every node.
 *
 * The demo opens each node's file itself, read-only, as any other program on that machine could: what it finds does not depend on
 * what the node says about itself.
 */
import Database from 'better-sqlite3'
import { CUSTOMERS } from './load-generator.ts'
import type { Ledger } from './ledger.ts'

export interface CheckedNode {
  readonly name: string
  readonly databasePath: string
  /** `<txid>/<checksum>` as the node reports it. */
  readonly position: string
}

/** Everything that is not as it should be; empty when all is well. */
export function findFaults(nodes: readonly CheckedNode[], ledger: Ledger): readonly string[] {
  const { count, first } = ledger.problems
  const faults = count === 0 ? [] : [`${count} requests went wrong, first: ${first.join('; ')}`]
  const positions = new Set(nodes.map((node) => node.position))
  if (positions.size > 1) {
    faults.push(`positions differ: ${nodes.map((node) => `${node.name} ${node.position}`).join(', ')}`)
  }
  return faults.concat(nodes.flatMap((node) => faultsOfFile(node, ledger)))
}

function faultsOfFile(node: CheckedNode, ledger: Ledger): readonly string[] {
  const database = new Database(node.databasePath, { readonly: true, fileMustExist: true })
  try {
    const faults: string[] = []
    const integrity = database.pragma('integrity_check', { simple: true })
    if (integrity !== 'ok') faults.push(`${node.name}: integrity_check says ${String(integrity)}`)
    const balance = database.prepare('SELECT balance FROM customers WHERE id = ?').pluck()
    const sum = database
      .prepare(`SELECT coalesce(sum(iif(kind = 'c', amount, -amount)), 0) FROM transactions WHERE customer_id = ?`)
      .pluck()
    for (const customer of CUSTOMERS) {
      const expected = ledger.balanceOf(customer)
      const found = balance.get(customer)
      if (found !== expected)
        faults.push(`${node.name}: customer ${customer} has ${String(found)}, the ledger ${expected}`)
      const summed = sum.get(customer)
      if (summed !== found)
        faults.push(`${node.name}: transactions of ${customer} sum up to ${String(summed)}, not ${String(found)}`)
    }
    const lines = database.prepare('SELECT count(*) FROM transactions').pluck().get()
    if (lines !== ledger.accepted) {
      faults.push(`${node.name}: ${String(lines)} transactions, the ledger has ${ledger.accepted}`)
    }
    return faults
  } finally {
    database.close()
  }
}
