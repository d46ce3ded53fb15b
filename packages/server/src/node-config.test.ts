import { ClusterError } from '@litefleet/core'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { readClusterKeys, readNodeConfig } from './config-file.ts'
import { mergeNodeConfig, parseNodeConfig } from './node-config.ts'
import { toClusterOptions } from './run-node.ts'

let directory = ''
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'litefleet-config-'))
})
afterEach(() => rmSync(directory, { recursive: true }))

function problem(run: () => unknown): string {
  try {
    run()
  } catch (error) {
    if (error instanceof ClusterError) return error.message.replace(/\s+/g, ' ')
    throw error
  }
  return 'no error'
}

test('a configuration file is read, its relative paths start at its own directory', () => {
  const file = path.join(directory, 'node.yml')
  writeFileSync(
    file,
    `
dataDir: ./data
node: { name: gru-1, region: gru }
lease: { kind: static, primary: { url: "http://10.0.0.1:4200" } }
listen: { host: 127.0.0.1, grpcPort: 1, httpPort: 2 }
clusterKeyFile: keys
interop: true
log: { retentionMs: 1000 }
ledger: { retentionMs: 3600000, rowsMax: 5 }
databases:
  - bank.db
  - { name: shop.db, migrations: sql }
`,
  )
  expect(readNodeConfig(file)).toEqual({
    dataDir: path.join(directory, 'data'),
    node: { name: 'gru-1', region: 'gru' },
    lease: { kind: 'static', primary: { url: 'http://10.0.0.1:4200' } },
    listen: { host: '127.0.0.1', grpcPort: 1, httpPort: 2 },
    clusterKeyFile: path.join(directory, 'keys'),
    interop: true,
    log: { retentionMs: 1000 },
    ledger: { retentionMs: 3_600_000, rowsMax: 5 },
    databases: [{ name: 'bank.db' }, { name: 'shop.db', migrations: path.join(directory, 'sql') }],
  })
})

test('interop is a switch, or a map of what more LiteFS nodes may do', () => {
  const read = (interop: string) => parseNodeConfig(`interop: ${interop}`, 'x.yml', '/').interop
  expect(read('false')).toBe(false)
  expect(read('{ handoff: true }')).toEqual({ handoff: true })
})

test('the files of a lease start at the directory of the configuration, the rest is handed on', () => {
  const read = (lease: string) => parseNodeConfig(`lease: ${lease}`, 'x.yml', '/etc/fleet').lease
  expect(read('{ kind: host, directory: ./lease, candidate: false }')).toEqual({
    kind: 'host',
    directory: '/etc/fleet/lease',
    candidate: false,
  })
  expect(read('{ kind: etcd, endpoints: ["https://a:1"], key: k, ttlMs: 5000, username: u, caFile: ca.pem }')).toEqual({
    kind: 'etcd',
    endpoints: ['https://a:1'],
    key: 'k',
    ttlMs: 5_000,
    username: 'u',
    caFile: '/etc/fleet/ca.pem',
  })
})

test('JSON is read as well, and an empty file is an empty configuration', () => {
  expect(parseNodeConfig('{"node":{"name":"a"}}', 'x.json', '/')).toEqual({ node: { name: 'a' } })
  expect(parseNodeConfig('', 'x.yml', '/')).toEqual({})
})

test.each([
  ['dataDri: x', 'unknown key "dataDri" Did you mean "dataDir"?'],
  ['listen: { grpcport: 1 }', 'x.yml: listen: unknown key "grpcport" Did you mean "grpcPort"?'],
  ['databases: [{ name: a, migration: b }]', 'databases[0]: unknown key "migration" Did you mean "migrations"?'],
  ['completely: other', 'unknown key "completely" Known keys: dataDir'],
  ['listen: 5', '"listen" is 5 It accepts a map of keys and values.'],
  ['databases: x', '"databases" is "x" It accepts a list'],
  ['lease: { kind: host, directroy: x }', 'lease: unknown key "directroy" Did you mean "directory"?'],
  ['lease: { kind: host, directory: 5 }', '"lease.directory" is 5 It accepts a text.'],
  ['interop: "yes"', '"interop" is "yes" It accepts true, false or { handoff: true }.'],
  ['interop: { handoff: 1 }', '"interop.handoff" is 1 It accepts true or false.'],
  ['interop: { handof: true }', 'interop: unknown key "handof" Did you mean "handoff"?'],
  ['dataDir: 5', '"dataDir" is 5 It accepts a text.'],
  ['- a', 'It accepts a map'],
  ['a: [', 'x.yml: '],
])('%j is refused with the place and the way out', (text, expected) => {
  const found = problem(() => parseNodeConfig(text, 'x.yml', '/'))
  expect(found).toContain('INVALID_OPTION')
  expect(found).toContain(expected)
})

test('what is laid over a configuration wins key by key, the lease as a whole', () => {
  const base = parseNodeConfig(
    '{ node: { name: a, region: r }, lease: { kind: static, primary: { url: "http://x:1" } } }',
    'x',
    '/',
  )
  const merged = mergeNodeConfig(base, { node: { name: 'b' }, lease: { kind: 'static', primary: true } })
  expect(merged).toEqual({ node: { name: 'b', region: 'r' }, lease: { kind: 'static', primary: true } })
})

test('a missing data directory and a missing lease are named with their flags', () => {
  expect(problem(() => toClusterOptions({}))).toContain('--data-dir')
  expect(problem(() => toClusterOptions({ dataDir: 'x' }))).toContain('--replica-of')
})

test('cluster keys are read one on a line; an empty or missing file is an error', () => {
  const file = path.join(directory, 'keys')
  writeFileSync(file, 'first-secret-of-mine\n\nsecond-secret-of-mine\n')
  expect(readClusterKeys(file)).toEqual(['first-secret-of-mine', 'second-secret-of-mine'])
  writeFileSync(file, '\n')
  expect(problem(() => readClusterKeys(file))).toContain('is empty')
  expect(problem(() => readClusterKeys(path.join(directory, 'none')))).toContain('ENOENT')
})
