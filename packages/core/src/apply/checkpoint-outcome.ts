/**
 * What a call of `checkpoint()` did.
 *
 * `not-due`: the WAL is below its soft limit, or the last attempt met readers a moment ago.
 * `syncing`: files are being synced off the event loop before the next step: call again when `settled()` resolves, or later.
 * `partial`: some frames were copied and more can be: call again in a later turn of the event loop.
 * `busy`: another checkpointer is at work, or readers of old versions hold the frames that are left.
 * `backfilled`: every frame is in the database file, but readers still use the WAL, so it could not be emptied.
 * `restarted`: the WAL is empty.
 */
export interface CheckpointOutcome {
  readonly kind: 'not-due' | 'syncing' | 'partial' | 'busy' | 'backfilled' | 'restarted'
  /** Frames copied into the database file by this call (with those of other processes meanwhile). */
  readonly copiedFrames: number
  /** Frames of the WAL that are not in the database file yet, as far as this applier knows. */
  readonly pendingFrames: number
}
