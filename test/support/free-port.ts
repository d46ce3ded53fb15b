/**
 * A port on loopback that is free now, and that the system gives to nobody by itself: below the ephemeral range, so that a node that was
 * killed finds its port free when it comes back. Test workers that run at the same time choose from ranges of their own, because a port that one of them
 * keeps for such a node looks free to the other.
 */
import { once } from 'node:events'
import net from 'node:net'

const FIRST = 15_000
const COUNT = 8_000
/** As many as vitest runs (vitest.config.ts). */
const WORKERS = 2
const ATTEMPTS = 50

export async function freePort(): Promise<number> {
  const worker = Number(process.env['VITEST_POOL_ID'] ?? 1) - 1
  const first = FIRST + (worker % WORKERS) * COUNT
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const port = first + Math.floor(Math.random() * COUNT)
    if (await isFree(port)) return port
  }
  throw new Error(`no free port among ${ATTEMPTS} between ${first} and ${first + COUNT}`)
}

async function isFree(port: number): Promise<boolean> {
  const server = net.createServer()
  const listening = once(server, 'listening')
  server.listen(port, '127.0.0.1')
  try {
    await listening
  } catch {
    return false
  }
  server.close()
  await once(server, 'close')
  return true
}
