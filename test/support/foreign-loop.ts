/**
 * Another program that writes to a file for as long as it is let: `node foreign-loop.ts <file> <SQL> <pauseMs>`, with an IPC channel.
 *
 * Plain better-sqlite3 on one connection, `synchronous` OFF; each turn runs the SQL once and counts it when it was committed. It says
 * `writing` after the first turn, and how many it committed when it is asked to stop.
 */
import Database from 'better-sqlite3'

export type LoopMessage = 'writing' | { readonly committed: number }

const [file = '', sql = '', pause = '0'] = process.argv.slice(2)
const connection = new Database(file, { fileMustExist: true, timeout: 0 })
connection.pragma('synchronous = OFF')
let committed = 0
let turns = 0

process.on('disconnect', () => process.exit(1))
process.on('message', () => {
  connection.close()
  process.send?.({ committed } satisfies LoopMessage, () => process.exit(0))
})
turn()

function turn(): void {
  if (!connection.open) return
  try {
    connection.exec(sql)
    committed++
  } catch (error) {
    // Somebody else is writing: that is no commit of ours.
    if ((error as { code?: string }).code?.startsWith('SQLITE_BUSY') !== true) throw error
  }
  if (++turns === 1) process.send?.('writing' satisfies LoopMessage)
  setTimeout(turn, Number(pause))
}
