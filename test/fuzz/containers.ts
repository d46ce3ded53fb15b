/**
 * Several files as one input. `u8 name length, name, u32 content length, content`, one after another; whatever is cut short is
 * taken as far as it goes, so that every input is some set of files.
 */
export interface FileInput {
  readonly name: string
  readonly content: Buffer
}

/** Most files in one input. */
const FILES_MAX = 12

export function packFiles(files: readonly FileInput[]): Buffer {
  return Buffer.concat(
    files.flatMap(({ name, content }) => {
      const length = Buffer.alloc(4)
      length.writeUInt32BE(content.length)
      return [Buffer.of(name.length), Buffer.from(name, 'latin1'), length, content]
    }),
  )
}

/** Names are made safe: nothing of an input leads out of its directory. */
export function unpackFiles(input: Buffer): FileInput[] {
  const files: FileInput[] = []
  for (let at = 0; at < input.length && files.length < FILES_MAX; ) {
    const nameBytes = input[at]! % 64
    const name = input.toString('latin1', at + 1, at + 1 + nameBytes).replace(/[^A-Za-z0-9._-]/g, 'x')
    at += 1 + nameBytes
    const length = at + 4 <= input.length ? input.readUInt32BE(at) : 0
    const content = Buffer.from(input.subarray(at + 4, at + 4 + length))
    if (name !== '' && !/^\.+$/.test(name)) files.push({ name, content })
    at += 4 + length
  }
  return files
}
