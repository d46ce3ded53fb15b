/** Another process on the same file: the `sqlite3` shell. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** Runs SQL in the shell; answers what it printed. Rejects with the shell's message when it fails. */
export async function shell(file: string, sql: string, busyMs = 5_000): Promise<string> {
  const { stdout } = await run('sqlite3', ['-bail', '-cmd', `.timeout ${busyMs}`, file, sql], { timeout: 30_000 })
  return stdout.trim()
}
