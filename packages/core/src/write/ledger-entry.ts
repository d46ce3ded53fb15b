/**
 * What the ledger stores for one request: the hash of what was asked (16 bytes), then the answer (`answer-codec.ts`).
 * An answer that is too large is left out; a request that was abandoned has an empty entry.
 */
import { decodeAnswer, writeAnswer } from '../request/answer-codec.ts'
import { OPERATION_HASH_BYTES } from '../request/operation-hash.ts'
import { PlainWriter, WriterFull } from '../request/plain-writer.ts'
import type { WriteResult } from '../request/write-request.ts'

export const TOMBSTONE = Buffer.alloc(0)

export interface LedgerEntry {
  /** As `OperationHasher` gives it. */
  readonly hash: string
  /** Decodes the answer; `undefined` when it was too large to keep. */
  answer(): WriteResult | undefined
}

export class LedgerEntryEncoder {
  readonly #writer: PlainWriter
  readonly #bytesMax: number

  constructor(answerBytesMax: number) {
    this.#bytesMax = OPERATION_HASH_BYTES + answerBytesMax
    this.#writer = new PlainWriter({ bytesMax: this.#bytesMax })
  }

  encode(hash: string, result: WriteResult): Buffer {
    const writer = this.#writer
    writer.reset()
    writer.latin1(hash)
    try {
      writeAnswer(writer, result)
    } catch (error) {
      if (error instanceof WriterFull) return writer.copy(OPERATION_HASH_BYTES)
      throw error
    }
    return writer.copy(writer.length <= this.#bytesMax ? writer.length : OPERATION_HASH_BYTES)
  }
}

/** `undefined`: a tombstone. */
export function readLedgerEntry(stored: Buffer): LedgerEntry | undefined {
  if (stored.length === 0) return undefined
  return {
    hash: stored.toString('latin1', 0, OPERATION_HASH_BYTES),
    answer: () =>
      stored.length > OPERATION_HASH_BYTES ? decodeAnswer(stored.subarray(OPERATION_HASH_BYTES)) : undefined,
  }
}
