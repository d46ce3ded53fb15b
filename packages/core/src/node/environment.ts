/**
 * What a node takes from the machine it runs on: time, files, and the way to an address.
 *
 * Applications get the real ones. A test hands in a disk that fails at a named operation, a clock that is wrong, or a route that
 * leads through a link it can cut.
 */
import { type Clock, systemClock } from '../base/clock.ts'
import { type Disk, realDisk } from '../files/disk.ts'

export interface NodeEnvironment {
  readonly clock: Clock
  /** Worker threads, which hash and copy whole databases, use the real one all the same. */
  readonly disk: Disk
  /** Where to connect for an address of another node, both `host:port`. Errors name the address that was asked for. */
  route(address: string): string
}

export const realEnvironment: NodeEnvironment = Object.freeze({
  clock: systemClock,
  disk: realDisk,
  route: (address: string) => address,
})
