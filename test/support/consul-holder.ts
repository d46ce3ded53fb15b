/**
 * A process that takes the lease of a Consul: `node consul-holder.ts <url> <key>`, with an IPC channel.
 *
 * It says its epoch; told to, it stops itself, and the first thing it does when it goes on is to look whether it still has the lease.
 */
import { systemClock } from '../../packages/core/src/base/clock.ts'
import { ConsulLease } from '../../packages/core/src/lease/consul-lease.ts'
import { parseConsulUrl } from '../../packages/core/src/lease/consul-url.ts'
import { take } from '../../packages/core/src/lease/test-support/take-lease.ts'

const [url = '', key = ''] = process.argv.slice(2)
const lease = new ConsulLease({
  address: parseConsulUrl(url, 'consul-holder', 'url'),
  key,
  ttlMs: 10_000,
  lockDelayMs: 0,
  clock: systemClock,
  random: Math.random,
  route: (address) => address,
})
const held = await take(lease, 'holder')
process.on('disconnect', () => process.exit(1))
process.on('message', () => {
  const before = held.isHeld(0)
  process.kill(process.pid, 'SIGSTOP')
  const after = held.isHeld(0)
  process.send?.({ before, after })
})
process.send?.({ epoch: held.epoch })
