/**
 * Makes inputs: mostly valid ones with a few changes, sometimes bytes that never were valid.
 *
 * Changes are those that decoders fall over: flipped bits, set bytes, numbers at the edge of their range in every width and
 * order (length fields), cut and stretched ends, pieces removed, doubled, or taken from another input, and tokens of the format.
 * The same `Random` makes the same input.
 */
import type { Random } from '../support/random.ts'

/** Longest input made. Bounds that grow with the input show at this size or never. */
export const INPUT_BYTES_MAX = 256 * 1024

const EDGES = [
  0n,
  1n,
  2n,
  0x7fn,
  0x80n,
  0xffn,
  0x100n,
  0x7fffn,
  0x8000n,
  0xffffn,
  0x10000n,
  0x7fffffffn,
  0x80000000n,
  0xfffffffen,
  0xffffffffn,
  0x100000000n,
  (1n << 53n) - 1n,
  1n << 53n,
  (1n << 63n) - 1n,
  1n << 63n,
  (1n << 64n) - 1n,
]

/** One input. `tokens` are put in now and then. */
export function makeInput(random: Random, corpus: readonly Buffer[], tokens: readonly Buffer[]): Buffer {
  if (random.next() < 0.04) return random.bytes(random.below(random.next() < 0.9 ? 200 : 4000))
  let input: Buffer = Buffer.from(random.pick(corpus))
  // Mostly few changes, so that what follows them is still reached.
  const changes = 1 + Math.floor(random.next() ** 3 * 12)
  for (let i = 0; i < changes; i++) input = change(random, input, corpus, tokens)
  return input.length > INPUT_BYTES_MAX ? input.subarray(0, INPUT_BYTES_MAX) : input
}

function change(random: Random, input: Buffer, corpus: readonly Buffer[], tokens: readonly Buffer[]): Buffer {
  if (input.length === 0) return random.bytes(1 + random.below(64))
  const at = place(random, input)
  switch (random.below(13)) {
    case 0:
    case 1:
      input[at] = input[at]! ^ (1 << random.below(8))
      return input
    case 2:
      input[at] = random.below(256)
      return input
    case 3:
    case 4:
    case 5:
      return setNumber(random, input, at)
    case 6:
      return input.subarray(0, at)
    case 7:
      return Buffer.concat([input, random.bytes(1 + random.below(40))])
    case 8:
      return removed(input, at, pieceBytes(random, input, at))
    case 9: {
      const piece = input.subarray(at, at + pieceBytes(random, input, at))
      const times = random.next() < 0.8 ? 1 : 1 + random.below(200)
      return inserted(input, place(random, input), times === 1 ? piece : repeated(piece, times))
    }
    case 10: {
      const other = random.pick(corpus)
      return Buffer.concat([input.subarray(0, at), other.subarray(place(random, other))])
    }
    case 11:
      return addToNumber(random, input, at)
    default: {
      const piece = tokens.length > 0 ? random.pick(tokens) : random.bytes(1 + random.below(8))
      return random.next() < 0.5 ? inserted(input, at, piece) : overwritten(input, at, piece)
    }
  }
}

/** Headers are at the front, trailers at the end: both are hit more often than their share. */
function place(random: Random, input: Buffer): number {
  const way = random.next()
  if (way < 0.35) return Math.min(random.below(128), Math.max(0, input.length - 1))
  if (way < 0.45) return Math.max(0, input.length - 1 - random.below(48))
  return random.below(Math.max(1, input.length))
}

function pieceBytes(random: Random, input: Buffer, at: number): number {
  const most = input.length - at
  return 1 + random.below(Math.min(most, random.next() < 0.7 ? 32 : most))
}

function setNumber(random: Random, input: Buffer, at: number): Buffer {
  const edge = random.next() < 0.25 ? BigInt(input.length + random.below(9) - 4) : random.pick(EDGES)
  writeNumber(input, at, 1 << random.below(4), random.next() < 0.5, edge)
  return input
}

/** One more, one less: the neighbour of a valid number. */
function addToNumber(random: Random, input: Buffer, at: number): Buffer {
  const by = random.below(9) - 4
  input[at] = (input[at]! + by) & 0xff
  return input
}

function writeNumber(input: Buffer, at: number, bytes: number, isBigEndian: boolean, value: bigint): void {
  let rest = BigInt.asUintN(64, value)
  for (let i = 0; i < bytes; i++) {
    const to = at + (isBigEndian ? bytes - 1 - i : i)
    if (to < input.length) input[to] = Number(rest & 0xffn)
    rest >>= 8n
  }
}

function removed(input: Buffer, at: number, bytes: number): Buffer {
  return Buffer.concat([input.subarray(0, at), input.subarray(at + bytes)])
}

function inserted(input: Buffer, at: number, piece: Buffer): Buffer {
  return Buffer.concat([input.subarray(0, at), piece, input.subarray(at)])
}

function overwritten(input: Buffer, at: number, piece: Buffer): Buffer {
  piece.copy(input, at)
  return input
}

function repeated(piece: Buffer, times: number): Buffer {
  const most = Math.max(1, Math.floor(INPUT_BYTES_MAX / 2 / piece.length))
  return Buffer.concat(Array.from({ length: Math.min(times, most) }, () => piece))
}
