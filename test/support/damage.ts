/** What a disk, or a hand, does to a file behind a node's back. The node must not run: this opens and closes the file. */
import { closeSync, fstatSync, fsyncSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs'

export type Damage =
  /** One byte is another. Negative: counted from the end. */
  | { readonly kind: 'flip'; readonly at: number }
  /** The end is missing. */
  | { readonly kind: 'cut'; readonly bytes: number }
  /** A range reads as zeros, as after a lost write. */
  | { readonly kind: 'zero'; readonly at: number; readonly bytes: number }
  /** Something else follows. */
  | { readonly kind: 'append'; readonly content: Uint8Array }
  /** The file is there and empty. */
  | { readonly kind: 'empty' }

export function damage(file: string, how: Damage): void {
  const fd = openSync(file, 'r+')
  try {
    const { size } = fstatSync(fd)
    switch (how.kind) {
      case 'flip': {
        const at = offset(how.at, size)
        const byte = Buffer.alloc(1)
        if (readSync(fd, byte, 0, 1, at) !== 1) throw new RangeError(`${file} has no byte at ${at}`)
        writeSync(fd, Uint8Array.of((byte[0] ?? 0) ^ 0x40), 0, 1, at)
        break
      }
      case 'cut':
        ftruncateSync(fd, Math.max(0, size - how.bytes))
        break
      case 'zero':
        writeSync(fd, Buffer.alloc(how.bytes), 0, how.bytes, offset(how.at, size))
        break
      case 'append':
        writeSync(fd, how.content, 0, how.content.length, size)
        break
      default:
        ftruncateSync(fd, 0)
    }
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

function offset(at: number, size: number): number {
  const from = at < 0 ? size + at : at
  if (from < 0 || from > size) throw new RangeError(`offset ${at} is outside of a file of ${size} bytes`)
  return from
}
