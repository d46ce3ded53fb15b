import fs from 'node:fs'

/** How many files below a directory this process has open; what else it opens and closes is its own business. */
export function openDescriptors(directory: string): number {
  return fs.readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return fs.readlinkSync(`/proc/self/fd/${fd}`).startsWith(directory)
    } catch {
      return false // the one that the listing itself had
    }
  }).length
}
