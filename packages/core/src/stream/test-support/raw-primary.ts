/** A LiteFS-like primary whose answers a test scripts by hand, byte by byte. Shares no code with the product. */
import http2 from 'node:http2'
import type { AddressInfo } from 'node:net'

export interface RawRequest {
  readonly stream: http2.ServerHttp2Stream
  readonly headers: http2.IncomingHttpHeaders
  readonly positions: Buffer
}

export class RawPrimary {
  readonly requests: RawRequest[] = []
  readonly #server: http2.Http2Server
  readonly #sessions = new Set<http2.Http2Session>()
  sessionsEver = 0
  /** Answers a request once its body is complete. */
  answer: (request: RawRequest) => void = () => undefined
  url = ''

  private constructor() {
    this.#server = http2.createServer()
    this.#server.on('session', (session) => {
      this.#sessions.add(session)
      this.sessionsEver++
      session.on('error', () => undefined)
      session.once('close', () => this.#sessions.delete(session))
    })
    this.#server.on('stream', (stream, headers) => {
      const pieces: Buffer[] = []
      stream.on('error', () => undefined)
      stream.on('data', (piece: Buffer) => pieces.push(piece))
      stream.on('end', () => {
        const request = { stream, headers, positions: Buffer.concat(pieces) }
        this.requests.push(request)
        if (!stream.destroyed) this.answer(request)
      })
    })
  }

  static async start(answer: (request: RawRequest) => void): Promise<RawPrimary> {
    const primary = new RawPrimary()
    primary.answer = answer
    await new Promise<void>((resolve) => primary.#server.listen(0, '127.0.0.1', resolve))
    primary.url = `http://127.0.0.1:${(primary.#server.address() as AddressInfo).port}`
    return primary
  }

  get sessionCount(): number {
    return this.#sessions.size
  }

  dropConnections(): void {
    for (const session of this.#sessions) session.destroy()
  }

  async close(): Promise<void> {
    this.dropConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }
}

export const HEADERS = { ':status': 200, 'litefs-id': '000000000000ABCD', 'litefs-cluster-id': 'LFSC0123456789ABCDEF' }
export const READY = Buffer.from('00000002', 'hex')
export const END = Buffer.from('00000003', 'hex')

export function heartbeat(timestampMs: number): Buffer {
  return Buffer.from(`00000007${timestampMs.toString(16).padStart(16, '0')}`, 'hex')
}

export function dropDb(name: string): Buffer {
  return Buffer.concat([Buffer.from('00000004', 'hex'), text(name)])
}

export function handoff(lease: string): Buffer {
  return Buffer.concat([Buffer.from('00000005', 'hex'), text(lease)])
}

export function hwm(name: string): Buffer {
  return Buffer.concat([Buffer.from('000000060000000000000000', 'hex'), text(name)])
}

/** @param chunkBytes LiteFS cuts stored files at 32,768 and snapshots anywhere */
export function ltxFrame(name: string, ltx: Buffer, chunkBytes = 32_768): Buffer {
  const parts = [Buffer.from('000000010000000000000000', 'hex'), text(name)]
  for (let i = 0; i < ltx.length; i += chunkBytes) {
    const piece = ltx.subarray(i, i + chunkBytes)
    parts.push(Buffer.of(piece.length >> 8, piece.length & 0xff), piece)
  }
  return Buffer.concat([...parts, Buffer.alloc(2)])
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value)
  const length = Buffer.alloc(4)
  length.writeUInt32BE(bytes.length)
  return Buffer.concat([length, bytes])
}
