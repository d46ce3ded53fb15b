/** Where the file of a node stands by its log, a seed that was left half in place included; `undefined` when neither knows its state. */
import type { SeedMarker } from '../../packages/core/src/engine/embedded/seed-marker.ts'
import type { TransactionLog } from '../../packages/core/src/log/transaction-log.ts'
import type { Position } from '../../packages/core/src/position/position.ts'
import type { SqliteFile } from './sqlite-file.ts'

/** Whether the log knows the state of the file, or the file knows the state that the log ends with. */
export function canContinue(file: SqliteFile, log: TransactionLog, marker: SeedMarker): boolean {
  const { position } = log.tail
  if (standingOf(file, log, marker) !== undefined) return true
  return position.txid > 0n && file.states.some((state) => state.checksum === position.checksum)
}

export function standingOf(file: SqliteFile, log: TransactionLog, marker: SeedMarker): Position | undefined {
  const { checksum } = file.current
  const known = log.tail.position.txid === 0n ? undefined : log.findChecksum(checksum)
  return known ?? marker.finish(log, checksum)
}
