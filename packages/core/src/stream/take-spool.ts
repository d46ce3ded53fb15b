/** Reads the body of an answer that is one LTX and hands it to an intake, at the pace of the intake. */
import type { ClientHttp2Stream } from 'node:http2'
import type { Clock, Timer } from '../base/clock.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { SnapshotIntake } from './stream-receiver.ts'

export interface TakeSpoolOptions {
  /** Fails after this long without a byte, while it is not the intake that is waited for. */
  readonly timeoutMs: number
  readonly clock: Clock
  /** Each chunk as it arrives. */
  readonly onBytes: (bytes: number) => void
}

/** Resolves when the intake has finished. Rejects with what ended body or intake, and the intake was aborted. */
export async function takeSpool(
  body: ClientHttp2Stream,
  intake: SnapshotIntake,
  options: TakeSpoolOptions,
): Promise<void> {
  const { timeoutMs, clock, onBytes } = options
  let silence: Timer | undefined
  const watch = (): void => {
    silence = clock.setTimer(timeoutMs, () => body.destroy(failed(`no byte came for ${timeoutMs} ms`)))
  }
  try {
    watch()
    for await (const chunk of body as AsyncIterable<Buffer>) {
      silence?.cancel()
      onBytes(chunk.length)
      await intake.data(chunk)
      watch()
    }
    silence?.cancel()
    // A stream that was reset ends like one that is complete.
    if ((body.rstCode ?? 0) !== 0) throw failed('the primary broke it off')
    await intake.finish()
  } catch (error) {
    silence?.cancel()
    intake.abort(error)
    throw error instanceof ClusterError ? error : failed('the connection was lost', error)
  }
}

function failed(reason: string, cause?: unknown): ClusterError {
  return new ClusterError('STREAM_FAILED', `difference: ${reason}`, { cause })
}
