import { setTimeout as sleep } from 'node:timers/promises'
import { type Epoch, NO_EPOCH } from '../../position/epoch.ts'
import type { LeaseHolder } from '../lease-holder.ts'
import type { AcquireOutcome, HeldLease, Lease } from '../lease.ts'

export function holderOf(name: string): LeaseHolder {
  return {
    hostname: name,
    advertiseUrl: `http://${name}:4200`,
    grpcAddress: `${name}:4201`,
    name,
    nodeId: 'aaaaaaaaaaaaaaaa',
    region: 'test',
    protocol: 1,
  }
}

/** One attempt. */
export function tryToTake(lease: Lease, name: string, epochAbove: Epoch = NO_EPOCH): Promise<AcquireOutcome> {
  return lease.acquire({ self: holderOf(name), epochAbove, signal: new AbortController().signal })
}

/** Tries until it is held; the test's own timeout bounds it. */
export async function take(lease: Lease, name: string, epochAbove?: Epoch): Promise<HeldLease> {
  for (;;) {
    const outcome = await tryToTake(lease, name, epochAbove)
    if (outcome.kind === 'held') return outcome.lease
    await sleep(5)
  }
}
