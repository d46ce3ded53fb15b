import { describe, expect, it } from 'vitest'
import { requireSecureListener } from './secure-listener.ts'

describe('requireSecureListener', () => {
  it.each(['127.0.0.1', '127.8.9.10', '::1', '[::1]', '0:0:0:0:0:0:0:1', 'localhost', 'LOCALHOST'])(
    'allows %s without a key',
    (host) => {
      expect(() => requireSecureListener(host, false)).not.toThrow()
    },
  )

  it.each([
    '0.0.0.0',
    '::',
    '10.0.0.1',
    '128.0.0.1',
    'fe80::1',
    'example.org',
    '127.0.0.1.example.org',
    'x@127.0.0.1',
    '',
    ' ',
  ])('refuses "%s" without a key and says what to do', (host) => {
    expect(() => requireSecureListener(host, false)).toThrow(
      expect.objectContaining({ code: 'INSECURE_LISTENER', hint: expect.stringContaining('clusterKey') }),
    )
    expect(() => requireSecureListener(host, true)).not.toThrow()
  })
})
