/**
 * Runs the requests of a divergence report again, in the order in which they were committed, as ordinary writes under their own ids.
 *
 * Promises: a request takes effect at most once in today's history, however often it is replayed: by its request id, its idempotency
 * key, or a key made from the report. Every attempt is noted in the report before the next one is made, so a replay that breaks off
 * goes on where it was.
 */
import { isClusterError } from '@litefleet/core'
import {
  type DivergentRequest,
  loadPeerProtocol,
  readReportedReplays,
  readReportedRequests,
  REPLAY_FILE,
  type Replay,
  replayLine,
  sendWrite,
  type StoredReport,
} from '@litefleet/core/peer'
import { open } from 'node:fs/promises'
import path from 'node:path'
import { formatRequest } from './divergence-view.ts'
import type { Terminal } from './terminal.ts'

export interface ReplayOptions {
  /** gRPC address of any node. */
  readonly node: string
  readonly keys: readonly string[]
  readonly dryRun: boolean
  readonly terminal: Terminal
}

interface Indexed {
  readonly request: DivergentRequest
  /** Among the requests of its transaction. */
  readonly index: number
}

const TIMEOUT_MS = 10_000

/** Answers how many requests were refused, or have an unknown outcome. */
export async function replayReport(stored: StoredReport, options: ReplayOptions): Promise<number> {
  const { terminal, dryRun } = options
  const done = new Set(
    readReportedReplays(stored)
      .filter(({ outcome }) => outcome === 'applied')
      .map(({ txid, index }) => `${txid} ${index}`),
  )
  const protocol = loadPeerProtocol()
  let failed = 0
  for (const indexed of withIndexes(readReportedRequests(stored))) {
    const { request, index } = indexed
    if (done.has(`${request.txid} ${index}`)) continue
    const skipped = whyNot(request, stored)
    if (dryRun) {
      terminal.out(`${skipped === undefined ? 'would run' : `would skip (${skipped})`}  ${formatRequest(request)}`)
      continue
    }
    const { outcome, reason } =
      skipped === undefined
        ? await runAgain(indexed, stored, (write) =>
            sendWrite(options.node, write, { ...options, protocol, timeoutMs: TIMEOUT_MS }),
          )
        : ({ outcome: 'skipped', reason: skipped } as const)
    await note(stored, { txid: request.txid, index, atMs: Date.now(), outcome, reason })
    if (outcome === 'refused' || outcome === 'unknown') failed++
    terminal.out(`${outcome}${reason === '' ? '' : ` (${reason})`}  ${formatRequest(request)}`)
  }
  return failed
}

/** Durable when this resolves. On a line of its own, whatever an attempt before left half written. */
async function note({ directory }: StoredReport, replay: Replay): Promise<void> {
  const handle = await open(path.join(directory, REPLAY_FILE), 'a')
  try {
    await handle.write(`\n${replayLine(replay)}\n`)
    await handle.datasync()
  } finally {
    await handle.close()
  }
}

function* withIndexes(requests: readonly DivergentRequest[]): Generator<Indexed> {
  let index = 0
  let before: DivergentRequest | undefined
  for (const request of requests) {
    index = before?.txid === request.txid ? index + 1 : 0
    before = request
    yield { request, index }
  }
}

/** Why a request cannot be run again; `undefined` when it can. */
function whyNot(
  { operation, requestId, idempotencyKey }: DivergentRequest,
  { report }: StoredReport,
): string | undefined {
  if (operation === undefined) return 'it was too large to keep; see its transaction'
  if (report.isExact || requestId !== undefined || idempotencyKey !== undefined) return undefined
  return "it has no identity and may stand in today's history as well"
}

type Send = (write: Parameters<typeof sendWrite>[1]) => ReturnType<typeof sendWrite>

async function runAgain(
  { request, index }: Indexed,
  { report }: StoredReport,
  send: Send,
): Promise<Pick<Replay, 'outcome' | 'reason'>> {
  const { operation, requestId, idempotencyKey, txid } = request
  if (operation === undefined) return { outcome: 'skipped', reason: 'it was too large to keep' }
  const ownKey = requestId === undefined ? `divergence:${report.id}:${txid}:${index}` : undefined
  try {
    const { replayed } = await send({
      database: report.database,
      operation,
      requestId,
      idempotencyKey: idempotencyKey ?? ownKey,
    })
    return { outcome: 'applied', reason: replayed ? 'it had taken effect before' : '' }
  } catch (error) {
    const reason = error instanceof Error ? (error.message.split('\n', 1)[0] ?? '') : String(error)
    if (!isClusterError(error)) return { outcome: 'refused', reason }
    if (error.outcome === 'applied') return { outcome: 'applied', reason }
    return { outcome: error.outcome === 'unknown' ? 'unknown' : 'refused', reason }
  }
}
