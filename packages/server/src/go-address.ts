/** Addresses to listen on in Go's notation: `host:port`, where no host means every address of the machine. */

export interface GoAddress {
  /** Without brackets; empty: every address. */
  readonly host: string
  /** 0: a free one. */
  readonly port: number
}

/** `undefined` for what is no address; a port by its name (`:http`), which Go looks up, is none here. */
export function parseGoAddress(text: string): GoAddress | undefined {
  if (text === '') return { host: '', port: 0 }
  const [, bracketed, bare, digits] = /^(?:\[([^\]]*)\]|([^:[\]]*)):(\d{0,5})$/.exec(text) ?? []
  const port = Number(digits)
  // No match leaves NaN, which is not below anything.
  return port <= 65_535 ? { host: bracketed ?? bare ?? '', port } : undefined
}
