/**
 * A process that takes the lease of an etcd: `node etcd-holder.ts <url> <key> <ttl in ms>`, with an IPC channel.
 *
 * It says its epoch; told to, it stops itself, and the first thing it does when it goes on is to look whether it still has the lease.
 */
import { systemClock } from '../../packages/core/src/base/clock.ts'
import { EtcdLease } from '../../packages/core/src/lease/etcd-lease.ts'
import { take } from '../../packages/core/src/lease/test-support/take-lease.ts'

const [url = '', key = '', ttlMs = ''] = process.argv.slice(2)
const lease = new EtcdLease({
  endpoints: [url],
  key,
  ttlMs: Number(ttlMs),
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
