import { describe, expect, test } from 'vitest'
import { resolveStreamServerOptions, STREAM_SERVER_DEFAULTS } from './stream-server-options.ts'
import { resolveStreamSinkOptions, STREAM_SINK_DEFAULTS } from './stream-sink-options.ts'

test('nothing given means the defaults', () => {
  expect(resolveStreamServerOptions()).toEqual(STREAM_SERVER_DEFAULTS)
  expect(resolveStreamSinkOptions({ heartbeatTimeoutMs: undefined })).toEqual(STREAM_SINK_DEFAULTS)
  expect(Object.isFrozen(resolveStreamServerOptions({ port: 1 }))).toBe(true)
})

describe('refused:', () => {
  test.each<[string, object]>([
    ['an unknown name', { prot: 1 }],
    ['a wrong type', { interop: 'yes' }],
    ['a port out of range', { port: 65_536 }],
    ['no number', { heartbeatMs: Number.NaN }],
    ['a batch that would fill the buffer', { batchBytes: 1024 * 1024 }],
  ])('%s (server)', (_what, given) => {
    expect(() => resolveStreamServerOptions(given)).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }))
  })

  test.each<[string, object]>([
    ['an unknown name', { window: 1 }],
    ['a timeout too short for one heartbeat', { heartbeatTimeoutMs: 99 }],
    ['a longest wait below the first', { reconnectMinMs: 100, reconnectMaxMs: 99 }],
  ])('%s (sink)', (_what, given) => {
    expect(() => resolveStreamSinkOptions(given)).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }))
  })
})
