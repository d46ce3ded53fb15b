/**
 * The HTTP contract of the bank.
 *
 * - `POST /clientes/:id/transacoes` with `{valor, tipo, descricao}`: 200 `{limite, saldo}`; 422 for a body that breaks a rule and
 *   for a debit beyond the limit; 404 for an unknown customer. An `Idempotency-Key` header makes a repeat harmless.
 * - `GET /clientes/:id/extrato`: 200 with the balance and the last ten; 404.
 * - `GET /status`: what this node knows of the cluster.
 *
 * The trigger's refusal arrives here as SQLite's own error, whether the transaction ran in this process or on another node.
 */
import Fastify, { type FastifyInstance, type FastifyReply } from 'fastify'
import { ClusterError, type WriteOptions } from '@litefleet/core'
import type { Balance, Bank } from './bank.ts'
import type { BankMetrics } from './metrics.ts'
import { parseCustomerId, parseTransfer } from './transfer.ts'

export interface HttpApiParts {
  readonly bank: Bank
  readonly metrics: BankMetrics
  /** How transfers are written: what is awaited, and for how long. */
  readonly write: WriteOptions
  /** Plain data for `GET /status`. */
  status(): unknown
}

interface CustomerPath {
  Params: { id: string }
}

export function createHttpApi({ bank, metrics, write, status }: HttpApiParts): FastifyInstance {
  const app = Fastify({ logger: false, forceCloseConnections: true })

  app.post<CustomerPath>('/clientes/:id/transacoes', async (request, reply) => {
    const id = parseCustomerId(request.params.id)
    if (id === undefined || !bank.hasCustomer(id)) return reply.code(404).send()
    const transfer = parseTransfer(id, request.body)
    if (transfer === undefined) return reply.code(422).send()
    const key = request.headers['idempotency-key']
    const startedMs = performance.now()
    try {
      const balance: Balance = await bank.transfer(
        transfer,
        typeof key === 'string' ? { ...write, idempotencyKey: key } : write,
      )
      metrics.wrote(performance.now() - startedMs)
      return await reply.send(balance)
    } catch (error) {
      if (!isRefusal(error)) throw error
      metrics.refused(performance.now() - startedMs)
      return await reply.code(422).send()
    }
  })

  app.get<CustomerPath>('/clientes/:id/extrato', (request, reply) => {
    const id = parseCustomerId(request.params.id)
    const statement = id === undefined ? undefined : bank.statement(id)
    if (statement === undefined) return reply.code(404).send()
    metrics.read()
    const { limite, saldo } = statement.balance
    return reply.send({
      saldo: { total: saldo, data_extrato: new Date().toISOString(), limite },
      ultimas_transacoes: statement.lines,
    })
  })

  app.get('/status', (_request, reply) => sendJson(reply, status()))

  // A body that is not JSON breaks the contract like any other bad body.
  app.setErrorHandler((error: Error & { statusCode?: number }, _request, reply) => {
    if (error.statusCode !== undefined && error.statusCode < 500) return reply.code(422).send()
    if (error instanceof ClusterError) {
      const { code, outcome, retry, message } = error
      return reply.code(503).send({ code, outcome, retry, message })
    }
    return reply.code(500).send({ message: error.message })
  })
  return app
}

/** A rule of the bank, told by SQLite: the trigger's RAISE or a CHECK. */
function isRefusal(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return code === 'SQLITE_CONSTRAINT_TRIGGER' || code === 'SQLITE_CONSTRAINT_CHECK'
}

/** TXIDs and checksums are bigints, which JSON does not know: they go out as 16 hex digits, like everywhere else. */
function sendJson(reply: FastifyReply, value: unknown): FastifyReply {
  const text = JSON.stringify(value, (_key, item: unknown) =>
    typeof item === 'bigint' ? item.toString(16).padStart(16, '0') : item,
  )
  return reply.type('application/json').send(text)
}
