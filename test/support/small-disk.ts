/**
 * A small file system of its own, mounted for a test: it really runs full, for SQLite and worker threads too.
 *
 * A tmpfs, because it needs nothing but the right to mount. The room is taken by a ballast file, which only this process touches.
 * Promises: after `close` it is unmounted and gone, whatever was open in it. Without the right to mount, `mount` throws what is missing.
 */
import { execFileSync } from 'node:child_process'
import { closeSync, fsyncSync, mkdtempSync, openSync, rmdirSync, rmSync, statfsSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

const PIECE = Buffer.alloc(4096, 0x5a)

export class SmallDisk implements Disposable {
  readonly directory: string
  readonly #ballast: string

  private constructor(directory: string) {
    this.directory = directory
    this.#ballast = path.join(directory, 'ballast')
  }

  static mount(sizeBytes: number): SmallDisk {
    const directory = mkdtempSync(path.join(tmpdir(), 'litefleet-disk-'))
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${sizeBytes}`, 'litefleet-test', directory], { stdio: 'pipe' })
    } catch (error) {
      rmdirSync(directory)
      throw new Error('mounting a tmpfs needs root (CAP_SYS_ADMIN): run the tests as root, or in a container with it', {
        cause: error,
      })
    }
    return new SmallDisk(directory)
  }

  /** Where a node can keep its data. */
  get dataDir(): string {
    return path.join(this.directory, 'data')
  }

  get freeBytes(): number {
    const { bavail, bsize } = statfsSync(this.directory)
    return bavail * bsize
  }

  /** Takes the room until no more than this is left, by default nothing. */
  fill(leaveBytes = 0): void {
    const fd = openSync(this.#ballast, 'a')
    try {
      while (this.freeBytes - PIECE.length >= leaveBytes) writeSync(fd, PIECE)
      fsyncSync(fd)
    } catch (error) {
      // Others wrote meanwhile.
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
    } finally {
      closeSync(fd)
    }
  }

  /** Gives the room back. */
  free(): void {
    rmSync(this.#ballast, { force: true })
  }

  /** Every process that has a file open here must have ended. */
  close(): void {
    execFileSync('umount', [this.directory], { stdio: 'pipe' })
    rmdirSync(this.directory)
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
