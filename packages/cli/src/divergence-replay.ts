/**
 * Runs the requests of a divergence report again, in the order in which they were committed, as ordinary writes under their own ids.
 *
 * Promises: a request takes effect at most once in today's history, however often and from however many reports it is replayed: a
 * transaction that stands in it (its epoch wrote its TXID there) is not run again; the others by their request id, their idempotency key,
 * or a key made from epoch and TXID. Every attempt is noted in the report before the next one is made, so a replay that breaks off
 * goes on where it was.
 */
import { ClusterError, isClusterError } from '@litefleet/core'
import {
  type DivergentRequest,
  epochOf,
  fetchStatus,
  loadPeerProtocol,
  readReportedReplays,
  readReportedRequests,
  REPLAY_FILE,
  type Replay,
  replayLine,
  sendWrite,
  type StoredReport,
  type UnaryOptions,
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
  const today = await historyOf(stored, { ...options, protocol })
  let failed = 0
  const send: Send = (write) => sendWrite(options.node, write, { ...options, protocol, timeoutMs: TIMEOUT_MS })
  for (const indexed of withIndexes(readReportedRequests(stored))) {
    const { request, index } = indexed
    if (done.has(`${request.txid} ${index}`)) continue
    const settled = without(request, stored, today)
    if (dryRun) {
      terminal.out(
        `${settled === undefined ? 'would run' : `would skip (${settled.reason})`}  ${formatRequest(request)}`,
      )
      continue
    }
    const { outcome, reason } = settled ?? (await runAgain(indexed, stored, send))
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

/** What is known of a request without running it: that it has taken effect, or cannot be run. `undefined`: it is to be run. */
function without(
  { txid, epoch, operation, requestId, idempotencyKey }: DivergentRequest,
  { report }: StoredReport,
  today: History,
): Attempt | undefined {
  const wroteIt = epochOf(today.epochs, txid)
  const isThere = wroteIt === epoch && txid <= today.end
  // In a report that is not exact two histories seem to have used one epoch: then only a ledger can tell.
  if (report.isExact && isThere) {
    return { outcome: 'applied', reason: "its transaction stands in today's history" }
  }
  if (operation === undefined) return { outcome: 'skipped', reason: 'it was too large to keep; see its transaction' }
  // Epoch 0: older than what the node tells of its epochs.
  const isLost = !isThere && wroteIt !== 0
  if (isLost || requestId !== undefined || idempotencyKey !== undefined) return undefined
  return { outcome: 'skipped', reason: "it has no identity and may stand in today's history as well" }
}

/** The cluster's history as the node that is asked knows it. */
interface History {
  readonly epochs: Parameters<typeof epochOf>[0]
  readonly end: DivergentRequest['txid']
}

async function historyOf({ report }: StoredReport, options: ReplayOptions & UnaryOptions): Promise<History> {
  const { databases } = await fetchStatus(options.node, options)
  const database = databases.find(({ name }) => name === report.database)
  if (database !== undefined) return { epochs: database.epochs, end: database.position.txid }
  throw new ClusterError('UNKNOWN_DATABASE', `node ${options.node} has no database "${report.database}"`)
}

type Attempt = Pick<Replay, 'outcome' | 'reason'>
type Send = (write: Parameters<typeof sendWrite>[1]) => ReturnType<typeof sendWrite>

async function runAgain({ request, index }: Indexed, { report }: StoredReport, send: Send): Promise<Attempt> {
  const { operation, requestId, idempotencyKey, txid, epoch } = request
  if (operation === undefined) return { outcome: 'skipped', reason: 'it was too large to keep' }
  const ownKey = requestId === undefined ? `divergence:${epoch}:${txid}:${index}` : undefined
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
