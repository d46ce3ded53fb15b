import { describe, expect, it } from 'vitest'
import { ByteCollector } from './byte-collector.ts'

describe('ByteCollector', () => {
  it('gives a field that lies whole in a chunk without copying it', () => {
    const chunk = Buffer.from('abcdef')
    const collector = new ByteCollector(8)
    const field = collector.take(chunk, 1, 3)
    expect(field?.toString()).toBe('bcd')
    expect(field?.buffer).toBe(chunk.buffer)
    expect(collector.next).toBe(4)
    expect(collector.pendingBytes).toBe(0)
  })

  it('joins a field from as many chunks as it takes', () => {
    const collector = new ByteCollector(8)
    for (const text of ['ab', '', 'c', 'de']) {
      expect(collector.take(Buffer.from(text), 0, 8)).toBeUndefined()
      expect(collector.next).toBe(text.length)
    }
    expect(collector.pendingBytes).toBe(5)
    expect(collector.take(Buffer.from('fghij'), 0, 8)?.toString()).toBe('abcdefgh')
    expect(collector.next).toBe(3)
  })

  it('gives an empty field at once', () => {
    expect(new ByteCollector(8).take(Buffer.alloc(0), 0, 0)?.length).toBe(0)
  })

  it('refuses a field above its bound', () => {
    expect(() => new ByteCollector(8).take(Buffer.alloc(9), 0, 9)).toThrow('field of 9 bytes')
  })
})
