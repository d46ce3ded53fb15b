/** Programs of the operating system that some tests use, and what they are for. */
import { existsSync } from 'node:fs'
import path from 'node:path'

const PARTS = [
  { program: 'sqlite3', why: 'commits and reads by another process (Debian: apt-get install sqlite3)' },
  { program: 'ip', why: 'partitions between network namespaces (Debian: apt-get install iproute2)' },
  { program: 'mount', why: 'a small file system that runs full (Debian: apt-get install mount)' },
  { program: 'etcd', why: 'elections (Debian: apt-get install etcd-server)' },
  { program: 'fusermount3', why: 'mounts of LiteFS (Debian: apt-get install fuse3)' },
] as const

/** One line for each program that is not on the PATH. */
export function missingSystemParts(searchPath: string = process.env['PATH'] ?? ''): readonly string[] {
  const directories = searchPath.split(path.delimiter).filter((directory) => directory !== '')
  return PARTS.filter(({ program }) => !directories.some((directory) => existsSync(path.join(directory, program)))).map(
    ({ program, why }) => `${program}: ${why}`,
  )
}
