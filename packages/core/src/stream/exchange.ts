/**
 * One HTTP request and its answer, the same for HTTP/1.1 and HTTP/2, with the texts Go's net/http gives (as LiteFS uses it).
 */
import type { IncomingHttpHeaders } from 'node:http'
import type { Readable, Writable } from 'node:stream'

export interface Exchange {
  readonly httpMajor: 1 | 2
  readonly method: string
  readonly path: string
  readonly query: URLSearchParams
  /** Names in lower case. */
  readonly headers: IncomingHttpHeaders
  /** `host:port` of the caller. */
  readonly remoteAddress: string
  /** The request's body. */
  readonly body: Readable
  /** Aborted once the answer is complete or the caller is gone. */
  readonly closed: AbortSignal
  /** Sends the headers at once and answers where the body goes. Called once. */
  respond(status: number, headers: Readonly<Record<string, string>>): Writable
  /** Breaks the answer off, so that the caller does not take it for complete. */
  reset(): void
}

/** One header as text; `undefined` when it is missing or was sent twice. */
export function header(exchange: Exchange, name: string): string | undefined {
  const value = exchange.headers[name]
  return typeof value === 'string' ? value : undefined
}

/** A whole short answer. */
export function reply(
  exchange: Exchange,
  status: number,
  headers: Readonly<Record<string, string>>,
  text: string,
): void {
  exchange.respond(status, { ...headers, 'content-length': String(Buffer.byteLength(text)) }).end(text)
}

/** An error as LiteFS answers it: the message and a newline as plain text. */
export function refuse(
  exchange: Exchange,
  status: number,
  headers: Readonly<Record<string, string>>,
  message: string,
): void {
  const type = { 'content-type': 'text/plain; charset=utf-8', 'x-content-type-options': 'nosniff' }
  reply(exchange, status, { ...headers, ...type }, `${message}\n`)
}

export type RequestBody =
  | { readonly kind: 'whole'; readonly bytes: Buffer }
  | { readonly kind: 'refused'; readonly status: number; readonly message: string }

/**
 * Reads the whole request body, at most `bytesMax` bytes and until `deadline` is aborted. The exchange can still be answered
 * when it is refused, which is why this is no `for await`: leaving one destroys the stream.
 */
export function readBody(exchange: Exchange, bytesMax: number, deadline: AbortSignal): Promise<RequestBody> {
  return new Promise((resolve) => {
    const { body } = exchange
    const pieces: Buffer[] = []
    let bytes = 0
    const settle = (outcome: RequestBody): void => {
      body.pause()
      body.off('data', onData)
      deadline.removeEventListener('abort', onDeadline)
      resolve(outcome)
    }
    const refused = (status: number, message: string): void => settle({ kind: 'refused', status, message })
    const onDeadline = (): void => refused(408, 'request timeout')
    const onData = (piece: Buffer): void => {
      bytes += piece.length
      if (bytes > bytesMax) return refused(413, 'request body too large')
      pieces.push(piece)
    }
    body.on('data', onData)
    body.once('end', () => settle({ kind: 'whole', bytes: Buffer.concat(pieces, bytes) }))
    body.once('close', () => refused(400, 'unexpected EOF'))
    deadline.addEventListener('abort', onDeadline, { once: true })
    if (deadline.aborted) onDeadline()
  })
}
