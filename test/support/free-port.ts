/**
 * A port on loopback that is free now, and that the system gives to nobody by itself: below the ephemeral range, so that a node that was
 * killed finds its port free when it comes back.
 */
import { once } from 'node:events'
import net from 'node:net'

const FIRST = 15_000
const COUNT = 16_000
const ATTEMPTS = 50

export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const port = FIRST + Math.floor(Math.random() * COUNT)
    if (await isFree(port)) return port
  }
  throw new Error(`no free port among ${ATTEMPTS} between ${FIRST} and ${FIRST + COUNT}`)
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
