/**
 * The bank on Litefleet: one database, one procedure, local reads.
 *
 * `transfer` may be called on any node; it runs on the primary, inside one transaction, and with the default await level the
 * calling node sees it when the call resolves. That is why `statement` can read this node's own copy without asking anybody.
 */
import type { Cluster, Database, PlainValue, WriteOptions } from '@litefleet/core'
import path from 'node:path'
import { INSERT_TRANSFER, SELECT_CUSTOMER, SELECT_LAST_TEN } from './sql.ts'
import type { Transfer } from './transfer.ts'

export const DATABASE_NAME = 'bank.db'

// Types and not interfaces where values cross the network as plain data.
export type Balance = { readonly limite: number; readonly saldo: number }

export interface StatementLine {
  readonly valor: number
  readonly tipo: string
  readonly descricao: string
  readonly realizada_em: string
}

export interface Statement {
  readonly balance: Balance
  /** Newest first, at most ten. */
  readonly lines: readonly StatementLine[]
}

export interface Bank {
  readonly database: Database
  /** Customers are never removed, so this node's copy answers for all. */
  hasCustomer(id: number): boolean
  /** Rejects with the trigger's SQLite error when the transfer breaks a rule of the bank. */
  transfer(transfer: Transfer, options?: WriteOptions): Promise<Balance>
  /** `undefined` for an unknown customer. */
  statement(customer: number): Statement | undefined
}

export async function openBank(cluster: Cluster): Promise<Bank> {
  const database = await cluster.database(DATABASE_NAME, {
    migrations: path.resolve(import.meta.dirname, '../migrations'),
  })
  const transfer = cluster.procedure<Transfer, Balance>('transfer', {
    database,
    run(tx, input) {
      tx.prepare(INSERT_TRANSFER).run(input)
      return tx.prepare<Balance>(SELECT_CUSTOMER).get(input.customer) as Balance & PlainValue
    },
  })
  const customer = database.prepare<Balance>(SELECT_CUSTOMER)
  return {
    database,
    hasCustomer: (id) => customer.get(id) !== undefined,
    transfer,
    // One state of the database for both reads: the lines belong to the balance.
    statement: (id) =>
      database.readTransaction((reader) => {
        const balance = reader.prepare<Balance>(SELECT_CUSTOMER).get(id)
        if (balance === undefined) return undefined
        return { balance, lines: reader.prepare<StatementLine>(SELECT_LAST_TEN).all(id) }
      }),
  }
}
