/** When a replica's WAL is copied back into the database file, and how large it may grow. */
import { invalidOption, rejectUnknownOptions } from '../errors/unknown-option.ts'

export interface ApplyOptions {
  /** Size of the WAL from which `checkpoint()` acts, in bytes. Default: 16 MiB. */
  readonly walSoftLimitBytes?: number | undefined
  /**
   * Size of the WAL, in bytes, above which `needsPause` asks the caller to stop applying until a checkpoint emptied it.
   * Overlapping readers can hold the WAL that long; a replica that pauses lags, one that does not fills the disk.
   * Default: 256 MiB.
   */
  readonly walHardLimitBytes?: number | undefined
  /**
   * How much one checkpoint copies at most, in bytes of pages, because it blocks the event loop meanwhile. A WAL far
   * above it is copied in at most 32 steps all the same. Default: 8 MiB.
   */
  readonly checkpointStepBytes?: number | undefined
}

export interface ResolvedApplyOptions {
  readonly walSoftLimitBytes: number
  readonly walHardLimitBytes: number
  readonly checkpointStepBytes: number
}

const MIB = 1024 * 1024

export const APPLY_DEFAULTS: ResolvedApplyOptions = Object.freeze({
  walSoftLimitBytes: 16 * MIB,
  walHardLimitBytes: 256 * MIB,
  checkpointStepBytes: 8 * MIB,
})

/** Fills in the defaults. Throws `INVALID_OPTION`. */
export function resolveApplyOptions(given: ApplyOptions = {}): ResolvedApplyOptions {
  const where = 'apply options'
  rejectUnknownOptions(given, Object.keys(APPLY_DEFAULTS), where)
  const resolved: ResolvedApplyOptions = Object.freeze({
    walSoftLimitBytes: given.walSoftLimitBytes ?? APPLY_DEFAULTS.walSoftLimitBytes,
    walHardLimitBytes: given.walHardLimitBytes ?? APPLY_DEFAULTS.walHardLimitBytes,
    checkpointStepBytes: given.checkpointStepBytes ?? APPLY_DEFAULTS.checkpointStepBytes,
  })
  for (const [name, value] of Object.entries(resolved)) {
    if (!Number.isSafeInteger(value) || value < 0)
      invalidOption(where, name, value, 'a whole number of bytes, 0 or more')
  }
  if (resolved.walHardLimitBytes < resolved.walSoftLimitBytes)
    invalidOption(where, 'walHardLimitBytes', resolved.walHardLimitBytes, 'no less than walSoftLimitBytes')
  return resolved
}
