/**
 * The header `litefleet-epochs`: the epoch tables of the databases a replica asked for, in compact text.
 *
 *   tables  = table *(";" table)
 *   table   = database "=" [start *("," start)]       database percent-encoded
 *   start   = epoch ":" first-txid ":" checksum       epoch decimal, the others hex without leading zeros
 *
 * Newest starts are kept when a table does not fit: a replica that is older than what fits has to ask elsewhere.
 * An HTTP header block is bounded on both sides, which is why there is a bound at all: `EPOCH_HEADER_BYTES_MAX`.
 */
import { checksum } from '../position/checksum.ts'
import { epoch, type EpochStart, type EpochTable } from '../position/epoch.ts'
import { txid } from '../position/txid.ts'

/** Longest header value written, in bytes. Each start takes at most 51. */
export const EPOCH_HEADER_BYTES_MAX = 12 * 1024

/** Encodes tables; a table that does not fit keeps its newest starts, and databases beyond the bound are left out. */
export function encodeEpochHeader(tables: ReadonlyMap<string, EpochTable>): string {
  const shareBytes = Math.floor(EPOCH_HEADER_BYTES_MAX / Math.max(1, tables.size))
  const parts: string[] = []
  let bytes = 0
  for (const [database, table] of tables) {
    const part = encodeTable(database, table, shareBytes)
    bytes += part.length + 1
    if (bytes > EPOCH_HEADER_BYTES_MAX) break
    parts.push(part)
  }
  return parts.join(';')
}

/** Parses a header value; `undefined` when it is malformed. */
export function parseEpochHeader(value: string): Map<string, EpochTable> | undefined {
  const tables = new Map<string, EpochTable>()
  for (const part of value === '' ? [] : value.split(';')) {
    const [name, starts, ...rest] = part.split('=')
    if (name === undefined || starts === undefined || rest.length > 0) return undefined
    const database = decodeName(name)
    const table = starts === '' ? [] : starts.split(',').map(parseStart)
    if (database === undefined || !isAscending(table)) return undefined
    tables.set(database, table)
  }
  return tables
}

function encodeTable(database: string, table: EpochTable, bytesMax: number): string {
  const name = `${encodeURIComponent(database)}=`
  const starts: string[] = []
  let bytes = name.length
  for (let i = table.length - 1; i >= 0; i--) {
    const { epoch: number, firstTxid, checksumBefore } = table[i]!
    const start = `${number}:${firstTxid.toString(16)}:${checksumBefore.toString(16)}`
    bytes += start.length + 1
    if (bytes > bytesMax) break
    starts.push(start)
  }
  return name + starts.reverse().join(',')
}

function parseStart(text: string): EpochStart | undefined {
  const match = /^([0-9]{1,16}):([0-9a-f]{1,16}):([0-9a-f]{1,16})$/.exec(text)
  if (match === null) return undefined
  try {
    return {
      epoch: epoch(Number(match[1])),
      firstTxid: txid(BigInt(`0x${match[2]}`)),
      checksumBefore: checksum(BigInt(`0x${match[3]}`)),
    }
  } catch {
    return undefined // out of range: as malformed as a wrong letter
  }
}

function isAscending(table: readonly (EpochStart | undefined)[]): table is EpochTable {
  return table.every((start, i) => {
    const before = table[i - 1]
    return start !== undefined && (i === 0 || (before !== undefined && before.epoch < start.epoch))
  })
}

function decodeName(text: string): string | undefined {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}
