/**
 * Another process that looks which lock bytes of a `-shm` file it could take exclusively:
 * `node lock-probe.ts <path of -shm>` prints one digit for each byte from 120 to 128, 1 where somebody holds a lock.
 */
import { realDisk } from '../../files/disk.ts'
import { tryLock, unlock } from '../../files/range-lock.ts'

const fd = realDisk.open('test.probe', process.argv[2] ?? '', 'r+')
let held = ''
for (let byte = 120; byte <= 128; byte++) {
  const isFree = tryLock(fd, byte, 1)
  if (isFree) unlock(fd, byte, 1)
  held += isFree ? '0' : '1'
}
process.stdout.write(held)
