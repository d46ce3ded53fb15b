import { afterEach, describe, expect, test } from 'vitest'
import { systemClock } from '../base/clock.ts'
import { until } from '../stream/test-support/until.ts'
import type { PeerSource } from '../options/peer-source.ts'
import { Discovery } from './discovery.ts'

const open: Discovery[] = []
afterEach(async () => {
  for (const discovery of open.splice(0)) await discovery.close()
})

function discover(sources: readonly PeerSource[], resolve?: (name: string) => Promise<readonly string[]>) {
  const failures: string[] = []
  const discovery = new Discovery({
    sources,
    clock: systemClock,
    random: () => 0,
    everyMs: 2,
    ...(resolve === undefined ? {} : { resolve }),
    onFailure: (_error, name) => failures.push(name),
  })
  open.push(discovery)
  discovery.start()
  return { discovery, failures }
}

describe('addresses of other nodes', () => {
  test('those of the configuration are known at once', () => {
    const { discovery } = discover([
      { kind: 'address', address: 'a:1' },
      { kind: 'address', address: 'b:2' },
    ])
    expect(discovery.addresses).toEqual(['a:1', 'b:2'])
  })

  test('names are looked up again and again: what comes is added, what goes is forgotten', async () => {
    const answers = [['10.0.0.1'], ['10.0.0.1', 'fdaa::3'], ['fdaa::3']]
    const { discovery } = discover([{ kind: 'dns', name: 'app.internal', port: 4201 }], () =>
      Promise.resolve(answers.length > 1 ? answers.shift()! : answers[0]!),
    )
    await until(() => discovery.addresses.length === 2)
    expect(discovery.addresses).toEqual(['10.0.0.1:4201', '[fdaa::3]:4201'])
    await until(() => discovery.addresses.length === 1)
    expect(discovery.addresses).toEqual(['[fdaa::3]:4201'])
  })

  test('what was known stays while nobody answers, and that is told', async () => {
    let isBroken = false
    const { discovery, failures } = discover([{ kind: 'dns', name: 'app.internal', port: 1 }], () =>
      isBroken ? Promise.reject(new Error('SERVFAIL')) : Promise.resolve(['10.0.0.1']),
    )
    await until(() => discovery.addresses.length === 1)
    isBroken = true
    await until(() => failures.length > 1)
    expect(discovery.addresses).toEqual(['10.0.0.1:1'])
    expect(failures[0]).toBe('app.internal')
  })

  test('the machine itself is asked: localhost is there, and what does not exist is nobody', async () => {
    const { discovery, failures } = discover([
      { kind: 'dns', name: 'localhost', port: 7 },
      { kind: 'dns', name: 'nobody.invalid', port: 7 },
    ])
    await until(() => discovery.addresses.length > 0)
    expect(discovery.addresses.every((address) => ['127.0.0.1:7', '[::1]:7'].includes(address))).toBe(true)
    expect(failures).toEqual([])
  })
})
