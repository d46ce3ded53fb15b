import { expect, test } from 'vitest'
import { LOG_DEFAULTS, resolveLogOptions } from './log-options.ts'

const invalid = expect.objectContaining({ code: 'INVALID_OPTION' })

test('defaults are filled in, and the stated limit follows the bytes', () => {
  const { retentionMs, retentionBytes, segmentBytes, tailCacheBytes } = LOG_DEFAULTS
  expect(resolveLogOptions()).toEqual({
    retentionMs,
    retentionBytes,
    retentionBytesMax: 4 * retentionBytes,
    segmentBytes,
    tailCacheBytes,
  })
  expect(resolveLogOptions({ retentionBytes: 1000 }).retentionBytesMax).toBe(4000)
})

test('unknown names and values out of range are refused', () => {
  expect(() => resolveLogOptions({ retensionMs: 1 } as object)).toThrow(invalid)
  for (const bad of [
    { retentionMs: -1 },
    { retentionMs: 0.5 },
    { segmentBytes: 4095 },
    { segmentBytes: 2 ** 31 },
    { tailCacheBytes: Number.NaN },
    { retentionBytes: 100, retentionBytesMax: 99 },
  ])
    expect(() => resolveLogOptions(bad)).toThrow(invalid)
})
