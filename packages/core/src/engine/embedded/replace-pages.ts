/**
 * Puts a seed in place under the readers of a database: the pages that differ, as one commit, in steps that let the event loop breathe.
 * When it rejects, readers see what they saw before.
 */
import type { WalApplier } from '../../apply/wal-applier.ts'
import type { Disk } from '../../files/disk.ts'
import type { ReceivedSnapshot } from '../../snapshot/snapshot-receiver.ts'

export async function replacePages(applier: WalApplier, snapshot: ReceivedSnapshot, disk: Disk): Promise<void> {
  const { checksums, header, position } = snapshot
  const fd = disk.open('seed.open-spool', snapshot.databaseFile, 'r')
  try {
    const steps = applier.applyPagesInSteps({
      pgnos: checksums.differingFrom(applier.checksums),
      read(pgno, target, offset) {
        disk.read('seed.read-spool', fd, target, offset, header.pageSize, (pgno - 1) * header.pageSize)
      },
      commit: checksums.pageCount,
      checksums,
      position,
    })
    while (steps.next().done !== true) await new Promise((resolve) => setImmediate(resolve))
  } finally {
    disk.close('seed.close-spool', fd)
  }
}
