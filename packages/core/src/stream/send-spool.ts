/** The whole of a spooled copy as an answer, at the pace of whoever receives it and within the bound of the send buffer. */
import type { SendBuffer } from './send-buffer.ts'
import type { SnapshotSpool } from './snapshot-spool.ts'

/** A copy that fails on the way breaks the answer off, so that half of it is never taken for the whole. Rejects then. */
export async function sendSpool(
  spool: SnapshotSpool,
  output: SendBuffer,
  batchBytes: number,
  what: string,
): Promise<void> {
  try {
    for await (const bytes of spool.read()) {
      for (let offset = 0; offset < bytes.length; offset += batchBytes) {
        const piece = bytes.subarray(offset, offset + batchBytes)
        await output.room(piece.length)
        output.write(piece)
      }
    }
    output.end(Buffer.alloc(0))
  } catch (error) {
    if (error === output.closed.reason) return
    output.reset(`${what} failed`)
    throw error
  }
}
