/** Watching one file for writes by anybody. Opens nothing on Linux (inotify), so it is safe beside SQLite. */
import fs from 'node:fs'

export interface FileWatch {
  close(): void
}

/** See `watchFile`; handed to rooms that watch, so that a test can stand in for the operating system. */
export type WatchFile = (file: string, onEvent: () => void, onError: (error: unknown) => void) => FileWatch

/**
 * Calls `onEvent` after writes to the file, some writes merged. Memory-mapped stores raise no event.
 * The watch does not keep the process alive. After `onError` no event may be expected any more.
 * Throws when the watch cannot be set up (no such file, no inotify instance left).
 */
export const watchFile: WatchFile = (file, onEvent, onError) => {
  const watcher = fs.watch(file, { persistent: false }, onEvent)
  watcher.on('error', onError)
  return { close: () => watcher.close() }
}
