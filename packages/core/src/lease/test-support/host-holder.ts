/** A process that takes the host lease of a directory, says so, and keeps it: `node host-holder.ts <directory> <name>`, with an IPC channel. */
import { systemClock } from '../../base/clock.ts'
import { realDisk } from '../../files/disk.ts'
import { HostLease } from '../host-lease.ts'
import { take } from './take-lease.ts'

const [directory = '', name = ''] = process.argv.slice(2)
const lease = new HostLease({ directory, disk: realDisk, clock: systemClock })
const held = await take(lease, name)
process.on('disconnect', () => process.exit(1))
process.send?.({ epoch: held.epoch })
