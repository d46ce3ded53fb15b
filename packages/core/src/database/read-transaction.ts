/** Several reads of one state: a snapshot that lasts for one synchronous function. */
import { ClusterError } from '../errors/cluster-error.ts'
import type { Connection, PreparedStatement } from '../sqlite/connection.ts'
import { type LocalReader, prepareRead } from './local-reader.ts'

export class ReadTransaction {
  readonly #connection: Connection
  readonly #database: string
  #ended = false

  private constructor(connection: Connection, database: string) {
    this.#connection = connection
    this.#database = database
  }

  /** Runs `work` inside a read transaction on a connection of its own. A returned promise is refused. */
  static run<T>(reader: LocalReader, database: string, work: (reader: ReadTransaction) => T): T {
    const connection = reader.acquire()
    const transaction = new ReadTransaction(connection, database)
    try {
      connection.exec('BEGIN')
      const result = work(transaction)
      if (result instanceof Promise) {
        result.catch(() => undefined) // it is refused below; its own failure must not end the process
        throw new ClusterError('INVALID_REQUEST', `database "${database}": a read transaction must be synchronous`)
      }
      return result
    } finally {
      transaction.#ended = true
      if (connection.inTransaction) connection.exec('COMMIT')
      reader.release(connection)
    }
  }

  /** Prepares a read of this transaction's state. */
  prepare<Row = Record<string, unknown>>(sql: string): PreparedStatement<unknown[], Row> {
    if (this.#ended) throw new ClusterError('CLOSED', `database "${this.#database}": the read transaction has ended`)
    return prepareRead(this.#connection, sql, this.#database) as PreparedStatement<unknown[], Row>
  }
}
