/** Asks a node what it has, and for its promise, over a virtual connection: the place of the unary call between real nodes. */
import type { Clock } from '../../packages/core/src/base/clock.ts'
import type { Candidacy, Standing } from '../../packages/core/src/peer/candidacy.ts'
import type { Endpoint, Host, Network } from './network.ts'

export const STANDING_DOOR = 'standing'
const BYTES = 300

export function askStanding(
  network: Network,
  host: Host,
  clock: Clock,
  address: string,
  candidacy: Candidacy,
  timeoutMs: number,
): Promise<Standing> {
  return new Promise((resolve, reject) => {
    const connection = network.dial(host, address.split(':')[0] as string, STANDING_DOOR)
    const fail = (): void => (connection.close(), reject(new Error(`${address} does not answer`)))
    const timer = clock.setTimer(timeoutMs, fail)
    connection.onEnd = () => (timer.cancel(), fail())
    connection.onData = (payload) => {
      timer.cancel()
      connection.close()
      resolve(payload as Standing)
    }
    connection.send(candidacy, BYTES)
  })
}

export function answerStanding(connection: Endpoint, answer: (candidacy: Candidacy) => Promise<Standing>): void {
  connection.onData = (payload) => {
    void answer(payload as Candidacy).then(
      (standing) => connection.send(standing, BYTES),
      () => connection.close(),
    )
  }
}
