/** When the primary checkpoints its WAL. */
import { invalidOption, rejectUnknownOptions } from '../errors/unknown-option.ts'
import { FRAME_HEADER_BYTES } from '../sqlite-format/wal-frame.ts'

export interface CheckpointOptions {
  /** Frames in the WAL from which a checkpoint is tried. Default: 1000 frames or 4 MiB, whichever is larger. */
  readonly thresholdFrames?: number | undefined
  /**
   * Frames from which the write lock is taken for it, because other processes write without a pause. Default: eight times
   * the threshold.
   */
  readonly hardLimitFrames?: number | undefined
  /** Longest wait for that lock, in ms; the event loop stands still meanwhile. Default: 20. */
  readonly lockWaitMs?: number | undefined
}

export interface ResolvedCheckpointOptions {
  readonly thresholdFrames: number
  readonly hardLimitFrames: number
  readonly lockWaitMs: number
}

export const CHECKPOINT_DEFAULTS = {
  thresholdFrames: 1000,
  thresholdBytes: 4 * 1024 * 1024,
  hardLimitFactor: 8,
  lockWaitMs: 20,
} as const

/**
 * @param pageSize of the database, in bytes
 * @throws ClusterError `INVALID_OPTION`
 */
export function resolveCheckpointOptions(given: CheckpointOptions, pageSize: number): ResolvedCheckpointOptions {
  const where = 'checkpoint'
  rejectUnknownOptions(given, ['thresholdFrames', 'hardLimitFrames', 'lockWaitMs'], where)
  const bySize = Math.ceil(CHECKPOINT_DEFAULTS.thresholdBytes / (FRAME_HEADER_BYTES + pageSize))
  const thresholdFrames = given.thresholdFrames ?? Math.max(CHECKPOINT_DEFAULTS.thresholdFrames, bySize)
  if (!Number.isSafeInteger(thresholdFrames) || thresholdFrames < 1) {
    invalidOption(where, 'thresholdFrames', thresholdFrames, 'a whole number of frames, at least 1')
  }
  const hardLimitFrames = given.hardLimitFrames ?? thresholdFrames * CHECKPOINT_DEFAULTS.hardLimitFactor
  if (!Number.isSafeInteger(hardLimitFrames) || hardLimitFrames < thresholdFrames) {
    invalidOption(where, 'hardLimitFrames', hardLimitFrames, 'a whole number of frames, at least the threshold')
  }
  const lockWaitMs = given.lockWaitMs ?? CHECKPOINT_DEFAULTS.lockWaitMs
  if (!Number.isFinite(lockWaitMs) || lockWaitMs < 0 || lockWaitMs > 10_000) {
    invalidOption(where, 'lockWaitMs', lockWaitMs, 'milliseconds from 0 to 10000')
  }
  return Object.freeze({ thresholdFrames, hardLimitFrames, lockWaitMs })
}
