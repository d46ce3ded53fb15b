/**
 * What the fuzzing process is at, in a file: when it hangs or dies, the process that watches it finds the guilty input here.
 *
 *   0  4  index of the target     4  4  run     8  4  bytes of input     12  …  input      (little-endian)
 */
import fs from 'node:fs'

const HEAD_BYTES = 12

export interface Progress {
  readonly target: number
  readonly run: number
  readonly input: Buffer
}

export class ProgressFile {
  readonly #fd: number
  readonly #head = Buffer.alloc(HEAD_BYTES)

  constructor(file: string) {
    this.#fd = fs.openSync(file, 'w')
  }

  write(target: number, run: number, input: Buffer): void {
    this.#head.writeUInt32LE(target, 0)
    this.#head.writeUInt32LE(run, 4)
    this.#head.writeUInt32LE(input.length, 8)
    fs.writevSync(this.#fd, [this.#head, input], 0)
  }

  close(): void {
    fs.closeSync(this.#fd)
  }
}

/** `undefined` before the first run. */
export function readProgress(file: string): Progress | undefined {
  let bytes: Buffer
  try {
    bytes = fs.readFileSync(file)
  } catch {
    return undefined
  }
  if (bytes.length < HEAD_BYTES) return undefined
  const input = bytes.subarray(HEAD_BYTES, HEAD_BYTES + bytes.readUInt32LE(8))
  return { target: bytes.readUInt32LE(0), run: bytes.readUInt32LE(4), input }
}
