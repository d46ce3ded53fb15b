/**
 * The identity of a write: under one id a write takes effect at most once in a history (I7).
 *
 * 16 bytes, text form 32 lowercase hex digits. Ids made here sort by time, so that the ledger only ever appends:
 *   0  6  issue time, ms since the Unix epoch, big-endian
 *   6  6  random id of the process that made it
 *  12  4  sequence within the process, big-endian
 */
declare const brand: unique symbol
export type RequestId = string & { readonly [brand]: 'RequestId' }

/** Parses 32 lowercase hex digits; `undefined` for anything else. */
export function parseRequestId(text: string): RequestId | undefined {
  return /^[0-9a-f]{32}$/.test(text) ? (text as RequestId) : undefined
}

/** When the id was made, in ms since the Unix epoch. */
export function issuedAtMs(id: RequestId): number {
  return Number.parseInt(id.slice(0, 12), 16)
}

/** Makes ids for one process. */
export class RequestIdSource {
  readonly #nowMs: () => number
  readonly #process: string
  #lastMs = 0
  #sequence = 0

  /** @param random six random bytes, fresh for each process */
  constructor(nowMs: () => number, random: Uint8Array) {
    if (random.length !== 6) throw new RangeError('six random bytes are needed')
    this.#nowMs = nowMs
    this.#process = Buffer.from(random).toString('hex')
  }

  next(): RequestId {
    // Never earlier than the last one: the order of ids is the order of the calls, also when the wall clock steps back.
    this.#lastMs = Math.max(this.#lastMs, this.#nowMs())
    this.#sequence = (this.#sequence + 1) >>> 0
    const time = this.#lastMs.toString(16).padStart(12, '0')
    return `${time}${this.#process}${this.#sequence.toString(16).padStart(8, '0')}` as RequestId
  }
}
