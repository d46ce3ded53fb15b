/**
 * A divergence report: what a node had that the cluster's history has not, kept before the node was seeded again.
 *
 *   <dataDir>/<group>/dbs/<name>/divergence/<id>/
 *     report.json       the facts below; written last, so that a directory without it is no report
 *     <txid>.seg        the transactions that only this node had, as a log segment (log/segment-format.ts)
 *     requests.jsonl    one line for each request that these transactions were asked for, as far as this node knows
 *     copy.ltx          of a file that was changed outside the log: one LTX that leads from the primary's state to what stood here
 *     replay.jsonl      one line for each request that was run again (litefleet divergence replay)
 */
import path from 'node:path'
import { ClusterError, isClusterError } from '../errors/cluster-error.ts'
import type { Disk } from '../files/disk.ts'
import { formatPosition, parsePosition, type Position } from '../position/position.ts'
import { type Epoch, epoch } from '../position/epoch.ts'
import { formatTxid, parseTxid, type Txid } from '../position/txid.ts'
import { type Json, operationFromJson, operationToJson } from '../request/plain-json.ts'
import { parseRequestId } from '../request/request-id.ts'
import type { JournaledRequest } from '../request/request-journal.ts'

export const REPORT_FILE = 'report.json'
export const REQUESTS_FILE = 'requests.jsonl'
export const COPY_FILE = 'copy.ltx'
export const REPLAY_FILE = 'replay.jsonl'

const REPLAY_OUTCOMES = ['applied', 'refused', 'unknown', 'skipped'] as const

export interface DivergenceReport {
  /** Unique for a database; says which transactions. */
  readonly id: string
  readonly database: string
  /** Ms since the Unix epoch. */
  readonly foundAtMs: number
  /**
   * `parted`: the log of this node goes on where the primary's history goes another way. `changed`: the database file was
   * changed by something that left no transaction in the log.
   */
  readonly kind: 'parted' | 'changed'
  /** In a sentence. */
  readonly reason: string
  /** The last position that both histories have; `undefined` where nothing proves one. */
  readonly shared: Position | undefined
  /** False: some of the transactions reported may stand in the primary's history as well. */
  readonly isExact: boolean
  /** Where this node stood, and the epoch of the transaction that led there. */
  readonly here: Position
  readonly hereEpoch: Epoch
  /** Where the primary stood. */
  readonly primary: Position | undefined
  readonly primaryEpoch: Epoch
  /** The first and the last of the transactions kept; `undefined` when there is none. */
  readonly transactions: { readonly first: Txid; readonly last: Txid } | undefined
  /** Transactions between the shared position and the first one kept that the log had removed already. */
  readonly missing: number
  readonly requests: number
}

/** A request of a report. */
export interface DivergentRequest extends JournaledRequest {
  readonly txid: Txid
  /** That wrote it; with the TXID it names the transaction in every history. */
  readonly epoch: Epoch
  readonly committedAtMs: number
}

/** One attempt to run a request again. */
export interface Replay {
  readonly txid: Txid
  /** Which of the requests of that transaction, from 0. */
  readonly index: number
  readonly atMs: number
  /**
   * `applied`: it has taken effect, now or before. `refused`: it has not, and `reason` says why. `unknown`: it may have; run it again.
   * `skipped`: it cannot be run again.
   */
  readonly outcome: 'applied' | 'refused' | 'unknown' | 'skipped'
  readonly reason: string
}

/** The facts as `report.json` has them. */
export function reportToJson(report: DivergenceReport): Readonly<Record<string, Json>> {
  const { shared, here, primary, transactions, foundAtMs, ...plain } = report
  return {
    version: 1,
    ...plain,
    foundAt: new Date(foundAtMs).toISOString(),
    shared: shared === undefined ? null : formatPosition(shared),
    here: formatPosition(here),
    primary: primary === undefined ? null : formatPosition(primary),
    transactions:
      transactions === undefined
        ? null
        : { first: formatTxid(transactions.first), last: formatTxid(transactions.last) },
  }
}

export function encodeReport(report: DivergenceReport): Buffer {
  return Buffer.from(`${JSON.stringify(reportToJson(report), null, 2)}\n`)
}

/** @throws CORRUPT_DATA naming the file */
export function decodeReport(bytes: Buffer, file: string): DivergenceReport {
  const json = parse(bytes.toString('utf8'), file)
  const text = (name: string): string => {
    const value = json[name]
    return typeof value === 'string' ? value : damaged(file, name)
  }
  const integer = (name: string): number => {
    const value = json[name]
    return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : damaged(file, name)
  }
  const position = (name: string): Position | undefined => {
    if (json[name] === null) return undefined
    return parsePosition(text(name)) ?? damaged(file, name)
  }
  const kind = text('kind')
  const { transactions, isExact } = json
  if (json['version'] !== 1) damaged(file, 'version')
  return {
    id: text('id'),
    database: text('database'),
    foundAtMs: Date.parse(text('foundAt')),
    kind: kind === 'parted' || kind === 'changed' ? kind : damaged(file, 'kind'),
    reason: text('reason'),
    shared: position('shared'),
    isExact: isExact === true,
    here: position('here') ?? damaged(file, 'here'),
    hereEpoch: epoch(integer('hereEpoch')),
    primary: position('primary'),
    primaryEpoch: epoch(integer('primaryEpoch')),
    transactions: transactions === null ? undefined : decodeRange(transactions, file),
    missing: integer('missing'),
    requests: integer('requests'),
  }
}

/** One line of `requests.jsonl`, without its end. */
export function encodeRequestLine(request: DivergentRequest): string {
  return JSON.stringify(requestToJson(request))
}

/** A request as `requests.jsonl` holds it and the command line prints it. */
export function requestToJson(request: DivergentRequest): object {
  const { txid, epoch, committedAtMs, requestId, idempotencyKey, operation } = request
  return {
    txid: formatTxid(txid),
    epoch,
    committedAt: new Date(committedAtMs).toISOString(),
    requestId: requestId ?? null,
    idempotencyKey: idempotencyKey ?? null,
    operation: operation === undefined ? null : operationToJson(operation),
  }
}

/** @throws CORRUPT_DATA naming the file */
export function decodeRequestLine(line: string, file: string): DivergentRequest {
  const { txid, epoch: writtenIn, committedAt, requestId, idempotencyKey, operation } = parse(line, file)
  const parsedTxid = typeof txid === 'string' ? parseTxid(txid) : undefined
  const parsedId = typeof requestId === 'string' ? parseRequestId(requestId) : undefined
  if (parsedTxid === undefined || typeof committedAt !== 'string') damaged(file, 'txid')
  if (parsedId === undefined && requestId !== null) damaged(file, 'requestId')
  return {
    txid: parsedTxid ?? damaged(file, 'txid'),
    epoch: Number.isSafeInteger(writtenIn) ? epoch(Number(writtenIn)) : damaged(file, 'epoch'),
    committedAtMs: Date.parse(typeof committedAt === 'string' ? committedAt : ''),
    requestId: parsedId,
    idempotencyKey: typeof idempotencyKey === 'string' ? idempotencyKey : undefined,
    operation: operation === null || operation === undefined ? undefined : operationFromJson(operation),
  }
}

export function replayLine({ txid, index, atMs, outcome, reason }: Replay): string {
  return JSON.stringify({ txid: formatTxid(txid), index, at: new Date(atMs).toISOString(), outcome, reason })
}

/** A line that is not whole stands for an attempt that was cut off: it is left out, and made again. */
export function readReplays(disk: Pick<Disk, 'readWhole'>, directory: string): readonly Replay[] {
  const file = path.join(directory, REPLAY_FILE)
  const lines = disk.readWhole('divergence.read', file)?.toString('utf8').split('\n') ?? []
  return lines.flatMap((line) => decodeReplay(line, file) ?? [])
}

function decodeReplay(line: string, file: string): Replay | undefined {
  try {
    const { txid, index, at, outcome, reason } = parse(line, file)
    const parsedTxid = typeof txid === 'string' ? parseTxid(txid) : undefined
    const known = REPLAY_OUTCOMES.find((name) => name === outcome)
    if (parsedTxid === undefined || known === undefined) return undefined
    if (typeof index !== 'number' || typeof at !== 'string' || typeof reason !== 'string') return undefined
    return { txid: parsedTxid, index, atMs: Date.parse(at), outcome: known, reason }
  } catch (error) {
    if (isClusterError(error, 'CORRUPT_DATA')) return undefined
    throw error
  }
}

function decodeRange(json: Json | undefined, file: string): { first: Txid; last: Txid } {
  const { first, last } = (json ?? {}) as { first?: unknown; last?: unknown }
  return {
    first: (typeof first === 'string' ? parseTxid(first) : undefined) ?? damaged(file, 'transactions'),
    last: (typeof last === 'string' ? parseTxid(last) : undefined) ?? damaged(file, 'transactions'),
  }
}

function parse(text: string, file: string): { readonly [key: string]: Json } {
  try {
    const json = JSON.parse(text) as Json
    if (json !== null && typeof json === 'object' && !Array.isArray(json)) {
      return json as { readonly [key: string]: Json }
    }
  } catch {
    // as below
  }
  return damaged(file, 'JSON')
}

function damaged(file: string, what: string): never {
  throw new ClusterError('CORRUPT_DATA', `${file} cannot be read: ${what}`, { details: { file } })
}
