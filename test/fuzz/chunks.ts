/** Cuts an input where its own bytes say, so that the same input is always cut the same. */
export function* chunksOf(input: Buffer): Generator<Buffer> {
  let at = 0
  while (at < input.length) {
    const hint = input[(at * 7) % input.length]!
    const bytes = hint < 64 ? hint + 1 : hint * hint
    // A copy: the reader may not rely on the memory of an earlier chunk.
    yield Buffer.from(input.subarray(at, at + bytes))
    at += bytes
  }
}
