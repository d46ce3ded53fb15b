/** One short HTTP/1.1 call to another node's replication endpoint. */
import http, { type IncomingHttpHeaders } from 'node:http'

export interface HttpCall {
  readonly method: 'GET' | 'POST'
  readonly address: { readonly host: string; readonly port: number }
  readonly path: string
  readonly headers?: Record<string, string> | undefined
  /** Ends the call; it rejects with an error of its own then. */
  readonly signal: AbortSignal
}

export interface HttpAnswer {
  readonly status: number
  readonly text: string
  readonly headers: IncomingHttpHeaders
}

/** Names and positions of some tens of thousands of databases. */
const ANSWER_BYTES_MAX = 4 * 1024 * 1024

/** Rejects when nobody answers, or with more than 4 MiB. */
export async function ask({ method, address, path, headers, signal }: HttpCall): Promise<HttpAnswer> {
  const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
    http
      .request({ ...address, method, path, ...(headers && { headers }), signal, agent: false }, resolve)
      .on('error', reject)
      .end()
  })
  const pieces: Buffer[] = []
  let bytes = 0
  for await (const piece of response as AsyncIterable<Buffer>) {
    bytes += piece.length
    if (bytes > ANSWER_BYTES_MAX) throw new Error('the answer is too long')
    pieces.push(piece)
  }
  return { status: response.statusCode ?? 0, text: Buffer.concat(pieces, bytes).toString(), headers: response.headers }
}
