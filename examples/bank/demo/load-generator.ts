/**
 * Clients of the bank: each sends one request, waits for the answer, sends the next.
 *
 * Most clients talk to replicas, because finding the primary is the cluster's business and not theirs. Two of three requests
 * write; two of three writes are debits, so that the balances sink to their limits and the trigger has something to refuse.
 *
 * With `pauses` nodes may go away: each write has an idempotency key, and is sent again, to the next node, until somebody says what became of it.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { Pool } from 'undici'
import { type Transfer, type TransferKind } from '../src/transfer.ts'
import type { WritePauses } from './failover.ts'
import type { Ledger } from './ledger.ts'

export const CUSTOMERS = [1, 2, 3, 4, 5] as const

const CLIENTS_AT_PRIMARY = 4
const CLIENTS_AT_REPLICA = 12
const REQUEST_TIMEOUT_MS = 30_000
const RETRY_MS = 20
const TRIES_MAX = 500

export interface Target {
  readonly name: string
  readonly url: string
  readonly isPrimary: boolean
}

export class LoadGenerator {
  readonly #ledger: Ledger
  readonly #pauses: WritePauses | undefined
  readonly #pools: readonly { readonly target: Target; readonly pool: Pool; readonly clients: number }[]
  #stopped = false
  #acceptedAtReplicas = 0
  #reads = 0
  #repeats = 0
  #running: Promise<unknown> = Promise.resolve()

  constructor(targets: readonly Target[], ledger: Ledger, pauses?: WritePauses) {
    this.#ledger = ledger
    this.#pauses = pauses
    this.#pools = targets.map((target) => {
      const clients = target.isPrimary ? CLIENTS_AT_PRIMARY : CLIENTS_AT_REPLICA
      const timeouts = { headersTimeout: REQUEST_TIMEOUT_MS, bodyTimeout: REQUEST_TIMEOUT_MS }
      return { target, clients, pool: new Pool(target.url, { connections: clients, ...timeouts }) }
    })
  }

  /** Accepted writes that had to be forwarded. */
  get acceptedAtReplicas(): number {
    return this.#acceptedAtReplicas
  }

  /** Writes that were sent once more. */
  get repeats(): number {
    return this.#repeats
  }

  get reads(): number {
    return this.#reads
  }

  start(): void {
    const clients = this.#pools.flatMap(({ target, pool, clients }) =>
      Array.from({ length: clients }, () => this.#client(target, pool)),
    )
    this.#running = Promise.all(clients)
  }

  /** Lets every client finish its request; then no answer is outstanding. */
  async stop(): Promise<void> {
    this.#stopped = true
    await this.#running
    await Promise.all(this.#pools.map(({ pool }) => pool.close()))
  }

  async #client(target: Target, pool: Pool): Promise<void> {
    while (!this.#stopped) {
      try {
        if (Math.random() < 2 / 3) await this.#write(target, pool)
        else await this.#readStatement(target, pool)
      } catch (error) {
        if (this.#pauses === undefined)
          this.#ledger.problem(`${target.name}: ${error instanceof Error ? error.message : String(error)}`)
        // A node that is down answers at once, thousands of times a second.
        await sleep(100)
      }
    }
  }

  async #write(target: Target, pool: Pool): Promise<void> {
    const transfer = randomTransfer()
    const { statusCode, text } =
      this.#pauses === undefined ? await send(pool, transfer) : await this.#insist(pool, transfer)
    if (statusCode === 200) {
      this.#ledger.accept(transfer)
      if (!target.isPrimary) this.#acceptedAtReplicas++
      this.#checkLimit(target, JSON.parse(text) as { limite: number; saldo: number })
    } else if (statusCode === 422 && transfer.kind === 'd') {
      this.#ledger.refuse()
    } else {
      this.#ledger.problem(`${target.name}: ${statusCode} for ${JSON.stringify(transfer)}: ${text.slice(0, 300)}`)
    }
  }

  /** Until somebody says what became of it. */
  async #insist(pool: Pool, transfer: Transfer): Promise<Answer> {
    const sentMs = performance.now()
    const key = randomUUID()
    const first = this.#pools.findIndex((one) => one.pool === pool)
    for (let tries = 0; tries < TRIES_MAX; tries++) {
      if (tries > 0) this.#repeats++
      const { pool: next } = this.#pools[(first + tries) % this.#pools.length]!
      try {
        const answer = await send(next, transfer, key)
        if (answer.statusCode !== 503) {
          this.#pauses?.answered(sentMs, performance.now())
          return answer
        }
      } catch {
        // The node is gone, or went in the middle: the next one knows, or runs it.
      }
      await sleep(RETRY_MS)
    }
    throw new Error(`no node could say what became of ${JSON.stringify(transfer)}`)
  }

  async #readStatement(target: Target, pool: Pool): Promise<void> {
    const customer = pick(CUSTOMERS)
    const { statusCode, body } = await pool.request({ method: 'GET', path: `/clientes/${customer}/extrato` })
    const text = await body.text()
    if (statusCode !== 200) {
      this.#ledger.problem(`${target.name}: ${statusCode} for the statement of ${customer}: ${text.slice(0, 300)}`)
      return
    }
    this.#reads++
    const { saldo } = JSON.parse(text) as { saldo: { total: number; limite: number } }
    this.#checkLimit(target, { limite: saldo.limite, saldo: saldo.total })
  }

  #checkLimit(target: Target, balance: { readonly limite: number; readonly saldo: number }): void {
    if (balance.saldo >= -balance.limite) return
    this.#ledger.problem(`${target.name}: balance ${balance.saldo} is beyond the limit ${balance.limite}`)
  }
}

interface Answer {
  readonly statusCode: number
  readonly text: string
}

async function send(pool: Pool, transfer: Transfer, key?: string): Promise<Answer> {
  const { statusCode, body } = await pool.request({
    method: 'POST',
    path: `/clientes/${transfer.customer}/transacoes`,
    headers: { 'content-type': 'application/json', ...(key === undefined ? {} : { 'idempotency-key': key }) },
    body: JSON.stringify({ valor: transfer.amount, tipo: transfer.kind, descricao: transfer.description }),
  })
  return { statusCode, text: await body.text() }
}

function randomTransfer(): Transfer {
  const kind: TransferKind = Math.random() < 2 / 3 ? 'd' : 'c'
  const amount = 1 + Math.floor(Math.random() * 10_000)
  const description = Math.random().toString(36).slice(2, 12).padEnd(1, 'x')
  return { customer: pick(CUSTOMERS), amount, kind, description }
}

function pick<T>(items: readonly T[]): T {
  return items[Math.floor(Math.random() * items.length)]!
}
