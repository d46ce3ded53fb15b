import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isClusterError } from '../errors/cluster-error.ts'
import { type Checksum, EMPTY_CHECKSUM, NO_CHECKSUM } from '../position/checksum.ts'
import type { Position } from '../position/position.ts'
import type { Txid } from '../position/txid.ts'
import { CHUNKS_END, encodeChunked, encodeChunks } from './chunked-body.ts'
import { encodePositionMap, parsePositionMap } from './position-map.ts'
import {
  encodeDropDb,
  encodeEnd,
  encodeHandoff,
  encodeHeartbeat,
  encodeHwm,
  encodeLtxFrameHeader,
  encodeReady,
  StreamFrameReader,
} from './stream-frame.ts'

type Event = readonly [string, ...unknown[]]

/** The reader with a visitor that notes every call; the data of one LTX is joined. */
function recording(): { reader: StreamFrameReader; events: Event[] } {
  const events: Event[] = []
  let data: Buffer[] = []
  const reader = new StreamFrameReader({
    ltxBegin: (name) => {
      data = []
      events.push(['ltx', name])
    },
    ltxData: (bytes) => data.push(Buffer.from(bytes)),
    ltxEnd: () => events.push(['data', Buffer.concat(data).toString('base64')]),
    ready: () => events.push(['ready']),
    end: () => events.push(['end']),
    dropDb: (name) => events.push(['dropdb', name]),
    handoff: (leaseId) => events.push(['handoff', leaseId]),
    hwm: (txid, name) => events.push(['hwm', txid, name]),
    heartbeat: (timestampMs) => events.push(['heartbeat', timestampMs]),
  })
  return { reader, events }
}

function pushInPieces(reader: StreamFrameReader, bytes: Buffer, cuts: readonly number[]): void {
  const ends = [...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].toSorted((a, b) => a - b)
  let at = 0
  for (const end of ends) {
    reader.push(Buffer.from(bytes.subarray(at, end)))
    at = end
  }
}

function codeOf(action: () => unknown): string {
  try {
    action()
    return 'accepted'
  } catch (error) {
    return isClusterError(error) ? error.code : String(error)
  }
}

/** Bytes from hex digits; spaces only separate fields. */
function fromHex(text: string): Buffer {
  return Buffer.from(text.replaceAll(' ', ''), 'hex')
}

const name = fc
  .string({ minLength: 1, maxLength: 60, unit: 'grapheme' })
  .filter((text) => Buffer.byteLength(text) <= 255 && text.isWellFormed())
const uint64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n })

const frame: fc.Arbitrary<{ readonly bytes: Buffer; readonly events: readonly Event[] }> = fc.oneof(
  fc.tuple(name, fc.uint8Array({ maxLength: 300 })).map(([db, data]) => ({
    bytes: encodeChunked(Buffer.from(data), encodeLtxFrameHeader(db)),
    events: [['ltx', db] as const, ['data', Buffer.from(data).toString('base64')] as const],
  })),
  fc.constant({ bytes: encodeReady(), events: [['ready'] as const] }),
  fc.constant({ bytes: encodeEnd(), events: [['end'] as const] }),
  name.map((db) => ({ bytes: encodeDropDb(db), events: [['dropdb', db] as const] })),
  name.map((id) => ({ bytes: encodeHandoff(id), events: [['handoff', id] as const] })),
  fc
    .tuple(uint64, name)
    .map(([txid, db]) => ({ bytes: encodeHwm(txid as Txid, db), events: [['hwm', txid, db] as const] })),
  fc.maxSafeInteger().map((ms) => ({ bytes: encodeHeartbeat(ms), events: [['heartbeat', ms] as const] })),
)

describe('stream frames', () => {
  it('have the bytes of LiteFS 0.5.14', () => {
    expect(encodeLtxFrameHeader('n.db')).toEqual(fromHex('00000001 0000000000000000 00000004 6e2e6462'))
    expect(encodeReady()).toEqual(fromHex('00000002'))
    expect(encodeEnd()).toEqual(fromHex('00000003'))
    expect(encodeDropDb('n.db')).toEqual(fromHex('00000004 00000004 6e2e6462'))
    expect(encodeHandoff('ab')).toEqual(fromHex('00000005 00000002 6162'))
    expect(encodeHwm(0x1234n as Txid, 'n')).toEqual(fromHex('00000006 0000000000001234 00000001 6e'))
    expect(encodeHeartbeat(1000)).toEqual(fromHex('00000007 00000000000003e8'))
    expect(encodeHeartbeat(-1)).toEqual(fromHex('00000007 ffffffffffffffff'))
  })

  it('come back in order, wherever the bytes are cut', () => {
    fc.assert(
      fc.property(fc.array(frame), fc.array(fc.nat(), { maxLength: 20 }), (frames, cuts) => {
        const { reader, events } = recording()
        pushInPieces(reader, Buffer.concat(frames.map(({ bytes }) => bytes)), cuts)
        expect(events).toEqual(frames.flatMap((one) => one.events))
        expect(reader.isBetweenFrames).toBe(true)
      }),
    )
  })

  it('come back from single bytes, and the reader knows when it is within one', () => {
    const bytes = encodeChunked(Buffer.from('data'), encodeLtxFrameHeader('a.db'))
    const { reader, events } = recording()
    for (let i = 0; i < bytes.length; i++) {
      reader.push(bytes.subarray(i, i + 1))
      expect(reader.isBetweenFrames).toBe(i === bytes.length - 1)
    }
    expect(events).toEqual([
      ['ltx', 'a.db'],
      ['data', Buffer.from('data').toString('base64')],
    ])
  })

  it('an empty LTX has no data but a begin and an end', () => {
    const { reader, events } = recording()
    reader.push(encodeChunked(Buffer.alloc(0), encodeLtxFrameHeader('a')))
    expect(events).toEqual([
      ['ltx', 'a'],
      ['data', ''],
    ])
  })

  it("a LiteFS error text in the body is reported as the primary's words", () => {
    const { reader } = recording()
    reader.push(encodeReady())
    let caught: unknown
    try {
      reader.push(Buffer.from('stream error: db="app.db" err=disk gone\n'))
    } catch (error) {
      caught = error
    }
    expect(isClusterError(caught, 'STREAM_FAILED')).toBe(true)
    expect(isClusterError(caught) && caught.details['primaryError']).toBe('stream error: db="app.db" err=disk gone')
    expect(String(caught)).toContain('disk gone')
    expect(codeOf(() => reader.push(encodeReady()))).toBe('STREAM_FAILED')
  })

  it('unknown types, empty and oversized names and names that are not UTF-8 are refused', () => {
    const bad = [
      '00000000',
      '00000008',
      'ffffffff',
      '00000004 00000000',
      '00000004 00000100',
      '00000004 ffffffff',
      '00000005 00000100',
      '00000004 00000001 80',
      '00000004 00000002 c328',
    ]
    for (const hex of bad) {
      const { reader } = recording()
      expect([hex, codeOf(() => reader.push(fromHex(hex)))]).toEqual([hex, 'STREAM_FAILED'])
    }
  })

  it('a name longer than a file name is never sent', () => {
    expect(() => encodeDropDb('x'.repeat(256))).toThrow('256 bytes')
    expect(() => encodeLtxFrameHeader('')).toThrow('0 bytes')
  })

  it('an error of the visitor stops the reader', () => {
    const reader = new StreamFrameReader({
      ...silentVisitor(),
      ready: () => {
        throw new RangeError('not now')
      },
    })
    expect(() => reader.push(encodeReady())).toThrow(RangeError)
    expect(codeOf(() => reader.push(encodeReady()))).toBe('STREAM_FAILED')
  })
})

function silentVisitor(): ConstructorParameters<typeof StreamFrameReader>[0] {
  const nothing = (): void => undefined
  return {
    ltxBegin: nothing,
    ltxData: nothing,
    ltxEnd: nothing,
    ready: nothing,
    end: nothing,
    dropDb: nothing,
    handoff: nothing,
    hwm: nothing,
    heartbeat: nothing,
  }
}

describe('chunked bodies', () => {
  it.each([0, 1, 12_300, 65_535, 65_536, 131_070, 1_000_000])('of %i bytes come back', (length) => {
    const bytes = Buffer.alloc(length, 'chunked body ')
    const body = encodeChunked(bytes)
    expect(Buffer.concat([encodeChunks(bytes), CHUNKS_END]).equals(body)).toBe(true)
    const { reader, events } = recording()
    reader.push(encodeLtxFrameHeader('a'))
    reader.push(body)
    expect(events[1]?.[1] === bytes.toString('base64')).toBe(true)
    expect(reader.isBetweenFrames).toBe(true)
  })

  it('have a big-endian length before each chunk and 0 at the end', () => {
    expect(encodeChunked(Buffer.from('abc'))).toEqual(fromHex('0003 616263 0000'))
    const long = encodeChunked(Buffer.alloc(65_537, 'x'))
    expect(long.readUInt16BE(0)).toBe(65_535)
    expect(long.readUInt16BE(2 + 65_535)).toBe(2)
    expect(long.length).toBe(2 + 65_535 + 2 + 2 + 2)
  })
})

describe('position maps', () => {
  const position: fc.Arbitrary<Position> = fc.tuple(uint64, uint64).map(([txid, value]) => ({
    txid: txid as Txid,
    checksum: (value === 0n ? NO_CHECKSUM : value | EMPTY_CHECKSUM) as Checksum,
  }))
  const map = fc.array(fc.tuple(name, position)).map((entries) => new Map(entries))

  it('have the bytes of LiteFS 0.5.14', () => {
    const one = new Map([['n.db', { txid: 6n as Txid, checksum: 0xa6f8eca6b11cc4c8n as Checksum }]])
    const bytes = '00000001 00000004 6e2e6462 0000000000000006 a6f8eca6b11cc4c8'
    expect(encodePositionMap(one)).toEqual(fromHex(bytes))
    expect(encodePositionMap(new Map())).toEqual(fromHex('00000000'))
  })

  it('come back, sorted by the bytes of the name', () => {
    fc.assert(
      fc.property(map, (given) => {
        const parsed = parsePositionMap(encodePositionMap(given))
        expect(new Map(parsed)).toEqual(given)
        const names = [...parsed.keys()].map((text) => Buffer.from(text))
        expect(names).toEqual(names.toSorted((a, b) => a.compare(b)))
      }),
    )
  })

  it('cut off or continued ones are refused', () => {
    fc.assert(
      fc.property(map, fc.nat(), (given, length) => {
        const bytes = encodePositionMap(given)
        expect(codeOf(() => parsePositionMap(bytes.subarray(0, length % bytes.length)))).toBe('INVALID_REQUEST')
        expect(codeOf(() => parsePositionMap(Buffer.concat([bytes, Buffer.alloc(1)])))).toBe('INVALID_REQUEST')
      }),
    )
  })

  it('duplicates, huge counts and names, and checksums without flag are refused', () => {
    const entry = '0000000161 0000000000000001 8000000000000000'
    expect(codeOf(() => parsePositionMap(fromHex(`00000001${entry}`)))).toBe('accepted')
    const bad = [
      `00000002${entry}${entry}`,
      'ffffffff',
      '00010001',
      '00000001 00000000 0000000000000001 8000000000000000',
      `00000001 00000100 ${'61'.repeat(256)} 0000000000000001 8000000000000000`,
      '00000001 00000001 61 0000000000000001 0000000000000001',
      '00000001 00000001 80 0000000000000001 8000000000000000',
    ]
    for (const hex of bad) {
      expect([hex, codeOf(() => parsePositionMap(fromHex(hex)))]).toEqual([hex, 'INVALID_REQUEST'])
    }
  })
})
