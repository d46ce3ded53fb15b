import { expect, test } from 'vitest'
import { resolvePeers } from './peer-source.ts'

test('addresses and names, in the order given', () => {
  expect(resolvePeers(['10.0.0.1:4201', '[fdaa::1]:1', 'dns:app.internal:4201'], {}, 0)).toEqual([
    { kind: 'address', address: '10.0.0.1:4201' },
    { kind: 'address', address: '[fdaa::1]:1' },
    { kind: 'dns', name: 'app.internal', port: 4201 },
  ])
  expect(resolvePeers(undefined, {}, 4201)).toEqual([])
})

test('on Fly.io the machines of the app are found by its name, where their port is the same', () => {
  const env = { FLY_APP_NAME: 'bank' }
  expect(resolvePeers(undefined, env, 4201)).toEqual([{ kind: 'dns', name: 'bank.internal', port: 4201 }])
  expect(resolvePeers(undefined, env, 0)).toEqual([])
  expect(resolvePeers([], env, 4201)).toEqual([])
})

test.each(['a', 'a:', 'a:0', 'a:70000', ':1', 'http://a:1', 'dns:[::1]:1', 5])('%j is refused by name', (peer) => {
  expect(() => resolvePeers(['a:1', peer as string], {}, 0)).toThrow(/"peers\[1\]"/)
})

test('too many, or no list', () => {
  expect(() => resolvePeers(Array(33).fill('a:1'), {}, 0)).toThrow(/at most 32/)
  expect(() => resolvePeers('a:1' as never, {}, 0)).toThrow(/"peers"/)
})
