import { describe, expect, it } from 'vitest'
import { formatLeaseHolder, type LeaseHolder, parseLeaseHolder, sameHolder } from './lease-holder.ts'

const holder: LeaseHolder = {
  hostname: 'gru-1',
  advertiseUrl: 'http://10.0.0.1:4200',
  name: 'gru-1',
  nodeId: '0123456789abcdef',
  grpcAddress: '10.0.0.1:4201',
  region: 'gru',
  protocol: 1,
}

describe('the holder of a lease', () => {
  it('is written with the fields LiteFS reads, and read back', () => {
    expect(JSON.parse(formatLeaseHolder(holder))).toMatchObject({
      hostname: 'gru-1',
      'advertise-url': 'http://10.0.0.1:4200',
    })
    expect(parseLeaseHolder(formatLeaseHolder(holder))).toEqual(holder)
    expect(sameHolder(holder, { ...holder })).toBe(true)
    expect(sameHolder(holder, { ...holder, grpcAddress: '10.0.0.1:9' })).toBe(false)
    expect(sameHolder(holder, undefined)).toBe(false)
    expect(sameHolder(undefined, undefined)).toBe(true)
  })

  it('is a LiteFS node when it has no gRPC address', () => {
    expect(parseLeaseHolder('{"hostname":"h","advertise-url":"http://h:20202"}')).toEqual({
      hostname: 'h',
      advertiseUrl: 'http://h:20202',
      name: 'h',
      nodeId: '',
      grpcAddress: undefined,
      region: '',
      protocol: undefined,
    })
  })

  it.each(['', '{', 'null', '[]', '7', '{"hostname":"h"}', '{"hostname":1,"advertise-url":"x"}'])(
    'is not read from %s',
    (text) => {
      expect(parseLeaseHolder(text)).toBeUndefined()
    },
  )
})
