/**
 * Finds and reads LTX bytes offline: LTX files (ours or LiteFS's), segments of a node's log, directories of either.
 *
 * Relies on: nothing of a running node. Reading is safe beside one, because LTX files and segments are not SQLite's; never open
 * a live database file this way.
 * Promises: an LTX is handed on only after every checksum of it was right; memory is one page, whatever the size of the file.
 * A segment whose last record is not whole is reported as a torn end, not as damage: a node that stopped in the middle of an
 * append leaves one, and cuts it off at its next start.
 */
import { ClusterError } from '@litefleet/core'
import {
  ENVELOPE_BYTES,
  type Envelope,
  type LogTail,
  type LtxHeader,
  LtxStreamReader,
  type LtxTrailer,
  parseEnvelope,
  parseRequestsHeader,
  parseSegmentHeader,
  parseSegmentName,
  REQUESTS_HEADER_BYTES,
  SEGMENT_HEADER_BYTES,
} from '@litefleet/core/peer'
import { type FileHandle, open, readdir, stat } from 'node:fs/promises'
import path from 'node:path'
import type { ReadLtx } from './ltx-view.ts'

export type LtxItem =
  | { readonly kind: 'segment'; readonly source: string; readonly base: LogTail }
  | { readonly kind: 'ltx'; readonly source: string; readonly epoch: number | undefined; readonly ltx: ReadLtx }
  | { readonly kind: 'torn-end'; readonly source: string; readonly bytes: number }

const CHUNK_BYTES = 1024 * 1024
const LTX_SUFFIX = '.ltx'

/** The files that hold LTX bytes at `target`, in order of their TXIDs. Throws when there are none. */
export async function findLtxFiles(target: string): Promise<readonly string[]> {
  const found = await stat(target).catch((error: unknown) => {
    throw new ClusterError('STORAGE_FAILED', `${target} cannot be read: ${codeOf(error)}`, { cause: error })
  })
  if (!found.isDirectory()) return [target]
  const names = await readdir(target)
  const files = names.filter((name) => name.endsWith(LTX_SUFFIX) || parseSegmentName(name) !== undefined).sort()
  if (files.length > 0) return files.map((name) => path.join(target, name))
  // A database's directory, ours (`log/`) or LiteFS's (`ltx/`).
  for (const inner of ['log', 'ltx']) if (names.includes(inner)) return findLtxFiles(path.join(target, inner))
  throw new ClusterError('INVALID_OPTION', `${target} holds no LTX file and no log segment`, {
    hint: 'Name an .ltx file, a .seg file, or the directory of a database: <dataDir>/main/dbs/<name>.',
  })
}

/** Everything in one file, in order. Throws `CORRUPT_DATA` naming file and offset at the first damage. */
export async function* readLtxFile(file: string, withPages: boolean): AsyncGenerator<LtxItem> {
  const handle = await open(file, 'r')
  try {
    const { size } = await handle.stat()
    if (parseSegmentName(path.basename(file)) === undefined) {
      const ltx = await readOne(handle, file, 0, size, withPages)
      yield { kind: 'ltx', source: file, epoch: undefined, ltx }
    } else {
      yield* readSegment(handle, file, size, withPages)
    }
  } finally {
    await handle.close()
  }
}

/** The LTX of each transaction of a segment, verified. Throws `CORRUPT_DATA` as `readLtxFile`. */
export async function* readLtxBytes(
  segment: string,
): AsyncGenerator<{ readonly txid: LtxHeader['minTxid']; readonly bytes: Buffer }> {
  const handle = await open(segment, 'r')
  try {
    for await (const item of readLtxFile(segment, false)) {
      if (item.kind !== 'ltx') continue
      const offset = Number(item.source.slice(item.source.lastIndexOf('@') + 1)) + ENVELOPE_BYTES
      yield { txid: item.ltx.header.minTxid, bytes: await readBytes(handle, offset, item.ltx.bytes) }
    }
  } finally {
    await handle.close()
  }
}

async function* readSegment(
  handle: FileHandle,
  file: string,
  size: number,
  withPages: boolean,
): AsyncGenerator<LtxItem> {
  const base = parseSegmentHeader(await readBytes(handle, 0, SEGMENT_HEADER_BYTES), file)?.base
  if (base === undefined) throw damaged(file, 0, 'not a segment header of this version')
  yield { kind: 'segment', source: file, base }
  let offset = SEGMENT_HEADER_BYTES
  while (offset < size) {
    const source = `${file}@${offset}`
    const envelope = await readEnvelope(handle, file, offset, size)
    if (envelope === undefined || offset + ENVELOPE_BYTES + envelope.ltxBytes > size) {
      yield { kind: 'torn-end', source, bytes: size - offset }
      return
    }
    const ltx = await readOne(handle, file, offset + ENVELOPE_BYTES, envelope.ltxBytes, withPages)
    if (ltx.header.minTxid !== envelope.txid) throw damaged(file, offset, 'the envelope names another TXID')
    yield { kind: 'ltx', source, epoch: envelope.epoch, ltx }
    offset += ENVELOPE_BYTES + envelope.ltxBytes
    // The requests behind a record are for a divergence report, not for whoever wants its pages.
    const head = await readBytes(handle, offset, REQUESTS_HEADER_BYTES)
    offset += parseRequestsHeader(head, envelope.txid) ?? 0
    if (offset > size) yield { kind: 'torn-end', source, bytes: REQUESTS_HEADER_BYTES }
  }
}

async function readEnvelope(
  handle: FileHandle,
  file: string,
  offset: number,
  size: number,
): Promise<Envelope | undefined> {
  if (offset + ENVELOPE_BYTES > size) return undefined
  const envelope = parseEnvelope(await readBytes(handle, offset, ENVELOPE_BYTES), 0)
  if (envelope === undefined) throw damaged(file, offset, 'not a record')
  return envelope
}

async function readOne(
  handle: FileHandle,
  file: string,
  offset: number,
  length: number,
  withPages: boolean,
): Promise<ReadLtx> {
  const seen: { header?: LtxHeader; trailer?: LtxTrailer; pageCount: number } = { pageCount: 0 }
  const pages: number[] = []
  const reader = new LtxStreamReader({
    header: (header) => void (seen.header = header),
    page: (pgno) => {
      seen.pageCount++
      if (withPages) pages.push(pgno)
    },
    end: (trailer) => void (seen.trailer = trailer),
  })
  try {
    for (let at = 0; at < length; at += CHUNK_BYTES) {
      reader.push(await readBytes(handle, offset + at, Math.min(CHUNK_BYTES, length - at)))
    }
    reader.finish()
  } catch (error) {
    throw damaged(file, offset, error instanceof Error ? error.message : String(error), error)
  }
  const { header, trailer, pageCount } = seen
  if (header === undefined || trailer === undefined) throw damaged(file, offset, 'it ends too early')
  return { header, trailer, bytes: length, pageCount, pages: withPages ? pages : undefined }
}

async function readBytes(handle: FileHandle, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length)
  const { bytesRead } = await handle.read(bytes, 0, length, offset)
  return bytes.subarray(0, bytesRead)
}

function damaged(file: string, offset: number, reason: string, cause?: unknown): ClusterError {
  return new ClusterError('CORRUPT_DATA', `${file}, byte ${offset}: ${reason}`, cause === undefined ? {} : { cause })
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error)
}
