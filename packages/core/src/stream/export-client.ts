/**
 * Fetches a database as a file: `GET /export?name=`, which LiteFS and Litefleet nodes answer alike, primary or not.
 *
 * Promises: resolves only when the answer is complete and begins as a SQLite database does; one that breaks off, or stands still for `STALL_MS`, rejects.
 */
import http, { type IncomingMessage } from 'node:http'
import { systemClock } from '../base/clock.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import { type Position, parsePosition } from '../position/position.ts'
import { type ClusterKeys, signToken } from '../request/cluster-token.ts'
import { addressOf } from './node-address.ts'
import { HEADER } from './stream-protocol.ts'

export interface ExportRequest {
  /** `http://host:port` of the node's HTTP listener. */
  readonly url: string
  readonly database: string
  /** Of the cluster; empty: none. LiteFS needs none. */
  readonly keys: ClusterKeys
}

export interface ExportResult {
  /** Where the database stands; LiteFS does not say. */
  readonly position: Position | undefined
  readonly bytes: number
}

const STALL_MS = 30_000
const MAGIC = 'SQLite format 3\0'
const REFUSAL_BYTES_MAX = 1_024

/**
 * @param write takes the next bytes; the next call waits for it
 * @throws ClusterError `EXPORT_FAILED`
 */
export async function fetchExport(
  { url, database, keys }: ExportRequest,
  write: (bytes: Buffer) => Promise<unknown>,
): Promise<ExportResult> {
  const target = URL.parse(url)
  if (target?.protocol !== 'http:') throw new ClusterError('INVALID_OPTION', `"${url}" is no http:// URL`)
  const token = signToken(keys, 'stream', { clusterId: '', nodeName: 'export' }, systemClock.nowMs())
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const path = `/export?name=${encodeURIComponent(database)}`
    const headers = token === undefined ? {} : { [HEADER.token]: token, [HEADER.node]: 'export' }
    http
      .get({ ...addressOf(target, (address) => address), path, headers, agent: false, timeout: STALL_MS }, resolve)
      .on('timeout', function timedOut(this: http.ClientRequest) {
        this.destroy(new Error(`nothing came for ${STALL_MS} ms`))
      })
      .on('error', reject)
  }).catch((error: unknown) => {
    throw failed(url, reasonOf(error), error)
  })
  if (response.statusCode !== 200) throw failed(url, `${response.statusCode} ${await refusalOf(response)}`)
  let bytes = 0
  let head = Buffer.alloc(0)
  try {
    for await (const piece of response as AsyncIterable<Buffer>) {
      if (head.length < MAGIC.length) head = Buffer.concat([head, piece]).subarray(0, MAGIC.length)
      bytes += piece.length
      await write(piece)
    }
  } catch (error) {
    throw error instanceof ClusterError ? error : failed(url, `the answer broke off: ${reasonOf(error)}`, error)
  }
  if (head.toString('latin1') !== MAGIC) throw failed(url, 'what came is no SQLite database')
  const position = response.headers[HEADER.position]
  return { position: typeof position === 'string' ? parsePosition(position) : undefined, bytes }
}

async function refusalOf(response: IncomingMessage): Promise<string> {
  let text = ''
  for await (const piece of response as AsyncIterable<Buffer>) {
    text += piece.toString()
    if (text.length > REFUSAL_BYTES_MAX) break
  }
  return text.trim().slice(0, REFUSAL_BYTES_MAX)
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

function failed(url: string, reason: string, cause?: unknown): ClusterError {
  return new ClusterError('EXPORT_FAILED', `export from ${url}: ${reason}`, {
    cause,
    hint: 'Does a node listen there (its HTTP listener), and does it have a database of this name? With a cluster key, give it.',
  })
}
