import { expect, test } from 'vitest'
import type { LeaseOptions } from './lease-options.ts'
import { resolveLease } from './lease-options.ts'

const resolve = (lease: object, env: NodeJS.ProcessEnv = {}) => resolveLease(lease as LeaseOptions, env)
const ETCD = { kind: 'etcd', endpoints: ['http://a:2379'] }

test('a static lease: the slash at the end of the primary url is dropped', () => {
  const lease = resolve({ kind: 'static', primary: { url: 'http://10.0.0.1:4200/' } })
  expect(lease).toEqual({ kind: 'static', primary: { url: 'http://10.0.0.1:4200' } })
})

test('a host lease: its directory is absolute, every node is a candidate unless told otherwise', () => {
  expect(resolve({ kind: 'host', directory: '/run/fleet' })).toEqual({
    kind: 'host',
    directory: '/run/fleet',
    candidate: true,
  })
  expect(resolve({ kind: 'host', directory: 'fleet', candidate: false })).toEqual({
    kind: 'host',
    directory: `${process.cwd()}/fleet`,
    candidate: false,
  })
})

test('an etcd lease: defaults, whole seconds, several endpoints, a password from the environment', () => {
  expect(resolve(ETCD)).toEqual({
    kind: 'etcd',
    endpoints: ['http://a:2379'],
    key: 'litefleet/primary',
    ttlMs: 10_000,
    username: undefined,
    password: undefined,
    caFile: undefined,
    candidate: true,
  })
  const endpoints = ['https://10.0.0.1:2379/', 'https://[fdaa::3]:2379', 'https://etcd.internal:1']
  expect(
    resolve({ ...ETCD, endpoints, ttlMs: 2_001, caFile: 'ca.pem', username: 'u' }, { LITEFLEET_ETCD_PASSWORD: 'p' }),
  ).toMatchObject({
    endpoints: ['https://10.0.0.1:2379', 'https://[fdaa::3]:2379', 'https://etcd.internal:1'],
    ttlMs: 3_000,
    username: 'u',
    password: 'p',
  })
  expect(resolve({ ...ETCD, username: 'u', password: 'given' }, { LITEFLEET_ETCD_PASSWORD: 'p' })).toMatchObject({
    password: 'given',
  })
  expect(resolve(ETCD, { LITEFLEET_ETCD_PASSWORD: 'p' })).toMatchObject({ password: undefined })
})

test('a consul lease: defaults, the prefix and the token in its URL, which may stand in the environment', () => {
  expect(resolve({ kind: 'consul', url: 'http://10.0.0.1' })).toEqual({
    kind: 'consul',
    address: { origin: 'http://10.0.0.1:8500', prefix: '', token: undefined },
    key: 'litefleet/primary',
    ttlMs: 10_000,
    lockDelayMs: 1_000,
    candidate: true,
  })
  const env = { FLY_CONSUL_URL: 'https://:a%2Fsecret@consul.fly.example/app%20one/x/' }
  expect(resolve({ kind: 'consul', key: 'k', ttlMs: 15_000, lockDelayMs: 0 }, env)).toMatchObject({
    address: { origin: 'https://consul.fly.example', prefix: 'app one/x', token: 'a/secret' },
    key: 'k',
    ttlMs: 15_000,
    lockDelayMs: 0,
  })
})

test('on Fly.io only machines of the primary region are candidates, unless told otherwise', () => {
  const lease = { kind: 'host', directory: '/x' }
  expect(resolve(lease, { FLY_REGION: 'gru', PRIMARY_REGION: 'gru' })).toMatchObject({ candidate: true })
  expect(resolve(lease, { FLY_REGION: 'lhr', PRIMARY_REGION: 'gru' })).toMatchObject({ candidate: false })
  expect(resolve(lease, { FLY_REGION: 'lhr' })).toMatchObject({ candidate: true })
  expect(resolve({ ...lease, candidate: true }, { FLY_REGION: 'lhr', PRIMARY_REGION: 'gru' })).toMatchObject({
    candidate: true,
  })
})

test.each([
  [{}, /"lease" is .*[^]*kind: "host"/],
  [{ kind: 'zookeeper', password: 'secret' }, /^(?![^]*secret)[^]*"lease" is/],
  [{ kind: 'static', primary: { url: 'host:1' } }, /"lease.primary"/],
  [{ kind: 'static', primary: true, directory: 'x' }, /unknown option "directory"/],
  [{ kind: 'consul' }, /"lease.url"[^]*FLY_CONSUL_URL/],
  [{ kind: 'consul', url: 'ftp://:secret@x' }, /^(?![^]*secret)[^]*"lease.url"/],
  [{ kind: 'consul', url: 'http://x', ttlMs: 9_000 }, /"lease.ttlMs"[^]*10000/],
  [{ kind: 'consul', url: 'http://x', lockDelayMs: -1 }, /"lease.lockDelayMs"/],
  [{ kind: 'consul', url: 'http://x', key: '/k' }, /"lease.key"/],
  [{ kind: 'host' }, /"lease.directory" is undefined/],
  [{ kind: 'host', directory: '' }, /"lease.directory"/],
  [{ kind: 'host', directroy: 'x' }, /unknown option "directroy"[^]*Did you mean "directory"/],
  [{ kind: 'host', directory: 'x', candidate: 'no' }, /"lease.candidate"/],
  [{ kind: 'etcd' }, /"lease.endpoints" is undefined/],
  [{ ...ETCD, endpoints: 'http://a:1' }, /"lease.endpoints"/],
  [{ ...ETCD, endpoints: [] }, /"lease.endpoints"/],
  [{ ...ETCD, endpoints: ['http://a:1', 'a:1'] }, /"lease.endpoints\[1\]" is "a:1"[^]*http:\/\/host:port/],
  [{ ...ETCD, endpoints: ['http://a'] }, /"lease.endpoints\[0\]"/],
  [{ ...ETCD, endpoints: ['http://u:p@a:1'] }, /"lease.endpoints\[0\]"/],
  [{ ...ETCD, key: 'a b' }, /"lease.key"/],
  [{ ...ETCD, key: '/a' }, /"lease.key"/],
  [{ ...ETCD, key: 'a/' }, /"lease.key"/],
  [{ ...ETCD, ttlMs: 1_999 }, /"lease.ttlMs" is 1999[^]*2000/],
  [{ ...ETCD, ttlMs: 2_000.5 }, /"lease.ttlMs"/],
  [{ ...ETCD, username: 'u' }, /"lease.password"[^]*LITEFLEET_ETCD_PASSWORD/],
  [{ ...ETCD, password: 'secret' }, /^(?![^]*secret)[^]*"lease.username"/],
  [{ ...ETCD, caFile: 'ca.pem' }, /"lease.endpoints"[^]*https/],
  [{ ...ETCD, caFile: 5 }, /"lease.caFile"/],
])('%j is refused by the name of the option, with what it accepts', (lease, message) => {
  expect(() => resolve(lease)).toThrow(message)
})
