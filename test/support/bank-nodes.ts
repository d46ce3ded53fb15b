/** The bank example as processes, and its HTTP API as a client sees it. */
import path from 'node:path'
import { BankProcess } from '../../examples/bank/demo/bank-process.ts'

export interface StatementBody {
  readonly saldo: { readonly total: number; readonly limite: number; readonly data_extrato: string }
  readonly ultimas_transacoes: readonly {
    readonly valor: number
    readonly tipo: string
    readonly descricao: string
    readonly realizada_em: string
  }[]
}

export interface TransferBody {
  readonly limite: number
  readonly saldo: number
}

/** Starts a primary and replicas, one after another, each with a directory of its own under `directory`. */
export async function startBank(directory: string, names: readonly string[]): Promise<readonly BankProcess[]> {
  const nodes: BankProcess[] = []
  for (const name of names) {
    nodes.push(
      await BankProcess.start({
        name,
        dataDir: path.join(directory, name),
        primary: nodes[0]?.ready.http,
        onReport: () => undefined,
      }),
    )
  }
  return nodes
}

/** A balancer that takes its nodes in turn, each request on a connection of its own. */
export class RoundRobin {
  readonly #urls: readonly string[]
  #next = 0

  constructor(urls: readonly string[]) {
    this.#urls = urls
  }

  async transfer(
    customer: number | string,
    body: unknown,
  ): Promise<{ status: number; body: TransferBody | undefined }> {
    const response = await fetch(`${this.#url()}/clientes/${customer}/transacoes`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', connection: 'close' },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    })
    const text = await response.text()
    return { status: response.status, body: response.ok ? (JSON.parse(text) as TransferBody) : undefined }
  }

  async statement(customer: number | string): Promise<{ status: number; body: StatementBody | undefined }> {
    const response = await fetch(`${this.#url()}/clientes/${customer}/extrato`, { headers: { connection: 'close' } })
    const text = await response.text()
    return { status: response.status, body: response.ok ? (JSON.parse(text) as StatementBody) : undefined }
  }

  #url(): string {
    return this.#urls[this.#next++ % this.#urls.length]!
  }
}
