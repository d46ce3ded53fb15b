/** A disk whose every call passes a function first, so that a test can count, fail or half-do it. */
import type { Disk, Operation } from '../../files/disk.ts'

export interface DiskCall {
  readonly method: keyof Disk
  readonly operation: Operation
  /** All arguments, the operation first. */
  readonly args: readonly unknown[]
  /** Does it. */
  run(): unknown
}

/** @param intercept its answer is the answer of the call */
export function interceptedDisk(disk: Disk, intercept: (call: DiskCall) => unknown): Disk {
  return new Proxy(disk, {
    get(target, name) {
      const method = name as keyof Disk
      const real = target[method] as (...args: readonly unknown[]) => unknown
      return (...args: readonly unknown[]) =>
        intercept({ method, operation: args[0] as Operation, args, run: () => real.apply(target, [...args]) })
    },
  })
}

/** Does the first half of a `write` call. */
export function writeHalf(disk: Disk, call: DiskCall): void {
  const [operation, fd, source, offset, length, position] = call.args as Parameters<Disk['write']>
  disk.write(operation, fd, source, offset, Math.floor(length / 2), position)
}
