/**
 * What a client may ask of the bank, checked by hand: three fields, and every wrong one is the same refusal.
 */

/** `c` adds to the balance, `d` takes from it. */
export type TransferKind = 'c' | 'd'

// A type and not an interface: it crosses the network as plain data.
export type Transfer = {
  readonly customer: number
  /** In cents, positive. */
  readonly amount: number
  readonly kind: TransferKind
  /** 1 … 10 characters. */
  readonly description: string
}

/** `undefined` when the body breaks any rule of the contract. */
export function parseTransfer(customer: number, body: unknown): Transfer | undefined {
  if (typeof body !== 'object' || body === null) return undefined
  const { valor, tipo, descricao } = body as Readonly<Record<string, unknown>>
  if (typeof valor !== 'number' || !Number.isSafeInteger(valor) || valor <= 0) return undefined
  if (tipo !== 'c' && tipo !== 'd') return undefined
  if (typeof descricao !== 'string' || descricao.length < 1 || descricao.length > 10) return undefined
  return { customer, amount: valor, kind: tipo, description: descricao }
}

/** The id in a path: digits only. `undefined` for anything else. */
export function parseCustomerId(text: string): number | undefined {
  return /^[0-9]{1,9}$/.test(text) ? Number(text) : undefined
}
