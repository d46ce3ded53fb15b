/** Removes a directory with everything in it. For directories of tests: never one with a live database. */
import fs from 'node:fs'

export function removeTree(directory: string): void {
  fs.rmSync(directory, { recursive: true, force: true })
}
