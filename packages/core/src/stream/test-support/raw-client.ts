/**
 * A LiteFS-like replica in a few lines, written from the facts sheet alone: it shares no code with the product, so that an error in
 * the product's formats cannot hide in both ends.
 */
import http from 'node:http'
import http2 from 'node:http2'
import net from 'node:net'

export interface RawFrame {
  readonly type: 'LTX' | 'READY' | 'END' | 'DROPDB' | 'HANDOFF' | 'HWM' | 'HEARTBEAT'
  readonly name?: string
  readonly ltx?: Buffer
  readonly txid?: bigint
  readonly timestampMs?: bigint
}

/** [name, TXID hex, checksum hex] in the order given. */
export function rawPositionMap(...entries: readonly (readonly [string, string, string])[]): Buffer {
  const hex = (n: number): string => n.toString(16).padStart(8, '0')
  const parts = entries.map(([name, txid, checksum]) => {
    const bytes = Buffer.from(name)
    return hex(bytes.length) + bytes.toString('hex') + txid.padStart(16, '0') + checksum.padStart(16, '0')
  })
  return Buffer.from(hex(entries.length) + parts.join(''), 'hex')
}

export class RawReplica {
  readonly session: http2.ClientHttp2Session
  readonly stream: http2.ClientHttp2Stream
  headers: http2.IncomingHttpHeaders | undefined
  readonly frames: RawFrame[] = []
  isClosed = false
  readonly #pieces: Buffer[] = []
  #unparsed = Buffer.alloc(0)
  #fresh: Buffer[] = []

  constructor(
    url: string,
    positions: Buffer,
    o: { path?: string; headers?: Record<string, string>; read?: boolean } = {},
  ) {
    const { hostname, port } = new URL(url)
    // As Go does: without it each window update waits for a delayed acknowledgement.
    this.session = http2.connect(url, {
      createConnection: () => net.connect({ host: hostname, port: Number(port), noDelay: true }),
    })
    this.session.on('error', () => undefined)
    this.stream = this.session.request({
      ':method': 'POST',
      ':path': o.path ?? '/stream',
      'litefs-id': '00000000DEADBEEF',
      'accept-encoding': 'gzip',
      ...o.headers,
    })
    this.stream.on('error', () => undefined)
    this.stream.on('response', (headers) => {
      this.headers = headers
    })
    this.stream.on('close', () => {
      this.isClosed = true
    })
    if (o.read ?? true) this.read()
    this.stream.end(positions)
  }

  read(): void {
    this.stream.on('data', (chunk: Buffer) => {
      this.#pieces.push(chunk)
      if (Number(this.headers?.[':status']) !== 200) return
      // Parsed once a turn: copying for every chunk would take quadratic time.
      if (this.#fresh.push(chunk) === 1) setImmediate(() => this.#parse())
    })
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#pieces)
  }

  get text(): string {
    return this.bytes.toString()
  }

  get types(): string {
    return this.frames.map((frame) => frame.type).join(' ')
  }

  ltx(): readonly Buffer[] {
    return this.frames.flatMap((frame) => frame.ltx ?? [])
  }

  count(type: RawFrame['type']): number {
    return this.frames.filter((frame) => frame.type === type).length
  }

  async close(): Promise<void> {
    if (this.session.destroyed) return
    const closed = new Promise((resolve) => this.session.once('close', resolve))
    this.session.destroy()
    await closed
  }

  #parse(): void {
    this.#unparsed = Buffer.concat([this.#unparsed, ...this.#fresh.splice(0)])
    for (let frame = parse(this.#unparsed, 0); frame !== undefined; frame = parse(this.#unparsed, 0)) {
      this.frames.push(frame.frame)
      this.#unparsed = this.#unparsed.subarray(frame.next)
    }
  }
}

function parse(b: Buffer, from: number): { frame: RawFrame; next: number } | undefined {
  if (b.length < from + 4) return undefined
  let at = from + 4
  const text = (): string | undefined => {
    if (b.length < at + 4) return undefined
    const length = b.readUInt32BE(at)
    if (b.length < at + 4 + length) return undefined
    at += 4 + length
    return b.toString('utf8', at - length, at)
  }
  switch (b.readUInt32BE(from)) {
    case 1: {
      at += 8
      const name = text()
      if (name === undefined) return undefined
      const pieces: Buffer[] = []
      for (;;) {
        if (b.length < at + 2) return undefined
        const size = b.readUInt16BE(at)
        at += 2
        if (size === 0) return { frame: { type: 'LTX', name, ltx: Buffer.concat(pieces) }, next: at }
        if (b.length < at + size) return undefined
        pieces.push(b.subarray(at, at + size))
        at += size
      }
    }
    case 2:
      return { frame: { type: 'READY' }, next: at }
    case 3:
      return { frame: { type: 'END' }, next: at }
    case 4:
    case 5: {
      const type = b.readUInt32BE(from) === 4 ? 'DROPDB' : 'HANDOFF'
      const name = text()
      return name === undefined ? undefined : { frame: { type, name }, next: at }
    }
    case 6: {
      if (b.length < at + 8) return undefined
      const txid = b.readBigUInt64BE(at)
      at += 8
      const name = text()
      return name === undefined ? undefined : { frame: { type: 'HWM', name, txid }, next: at }
    }
    case 7:
      if (b.length < at + 8) return undefined
      return { frame: { type: 'HEARTBEAT', timestampMs: b.readBigInt64BE(at) }, next: at + 8 }
    default:
      throw new Error(`unknown frame type ${b.readUInt32BE(from)}`)
  }
}

export interface RawAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly text: string
}

export function http1Request(url: string, method = 'GET', headers: Record<string, string> = {}): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    const request = http.request(url, { method, headers, agent: false }, (response) => {
      let text = ''
      response.setEncoding('latin1')
      response.on('data', (piece: string) => {
        text += piece
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }))
      response.on('error', reject)
    })
    request.on('error', reject)
    request.end()
  })
}

export function http2Request(url: string, method = 'GET', headers: Record<string, string> = {}): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    const { origin, pathname, search } = new URL(url)
    const session = http2.connect(origin)
    session.on('error', reject)
    const stream = session.request({ ':method': method, ':path': pathname + search, ...headers })
    let answered: http2.IncomingHttpHeaders = {}
    let text = ''
    stream.setEncoding('latin1')
    stream.on('response', (received) => {
      answered = received
    })
    stream.on('data', (piece: string) => {
      text += piece
    })
    stream.on('error', reject)
    stream.on('close', () => {
      session.destroy()
      resolve({ status: Number(answered[':status']), headers: answered, text })
    })
    stream.end()
  })
}
