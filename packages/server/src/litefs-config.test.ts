import { readFileSync } from 'node:fs'
import path from 'node:path'
import { isClusterError } from '@litefleet/core'
import { expect, test } from 'vitest'
import { parseDocument } from 'yaml'
import { LITEFS_KEYS, parseLiteFsConfig } from './litefs-config.ts'
import { expandLiteFsVariables } from './litefs-expand.ts'
import { type LiteFsSurroundings, nodeOfLiteFs } from './litefs-node.ts'

const SAMPLE = readFileSync(path.resolve(import.meta.dirname, '../../../litefs.yml'), 'utf8')
const STATIC = 'lease: { type: static, hostname: gru, advertise-url: "http://gru.internal:20202" }'

const parse = (text: string, env: NodeJS.ProcessEnv = {}) => parseLiteFsConfig(text, 'litefs.yml', env)
const SURROUNDINGS: LiteFsSurroundings = { where: 'litefs.yml', grpcPort: 4201, hostname: 'machine' }
const nodeOf = (text: string, over: Partial<LiteFsSurroundings> = {}) =>
  nodeOfLiteFs(parse(text), { ...SURROUNDINGS, ...over })

function problem(work: () => unknown): string {
  try {
    work()
  } catch (error) {
    if (isClusterError(error, 'INVALID_OPTION')) return error.message
    throw error
  }
  return 'none'
}

test('the sample litefs.yml is read whole, and has every key that there is', () => {
  const config = parse(SAMPLE)
  const all = Object.entries(LITEFS_KEYS).flatMap(([section, keys]) =>
    Object.keys(keys).map((key) => `${section}.${key}`),
  )
  expect(config.given.toSorted()).toEqual([...all, 'exit-on-error', 'skip-sync', 'strict-verify', 'exec'].toSorted())
  expect(parseDocument(SAMPLE, { strict: true, uniqueKeys: true }).warnings).toEqual([])
  expect(config.data).toEqual({
    dir: '/var/lib/litefs',
    compress: true,
    retention: 600_000,
    'retention-monitor-interval': 60_000,
  })
  expect(config.lease['consul.lock-delay']).toBe(1_000)
})

test.each([
  ['fuze: {}', 'unknown key "fuze" Did you mean "fuse"?'],
  ['data: { dri: x }', 'litefs.yml: data: unknown key "dri" Did you mean "dir"?'],
  [`lease: { type: consul, consul: { uri: x } }`, 'lease.consul: unknown key "uri" Did you mean "url"?'],
  ['data: { retention: 10 }', '"data.retention" is 10 It accepts a duration'],
  ['data: { retention: "10 minutes" }', 'It accepts a duration'],
  ['data: { compress: "maybe" }', '"data.compress" is "maybe" It accepts true or false.'],
  ['tracing: { max-size: 1.5 }', '"tracing.max-size" is 1.5'],
  ['proxy: { passthrough: /a }', '"proxy.passthrough" is "/a" It accepts a list of texts.'],
  ['lease: {}', '"lease.type" is undefined It accepts consul or static.'],
  ['lease: { type: raft }', '"lease.type" is "raft"'],
  ['lease: { type: consul }', '"lease.consul.key" is ""'],
  ['lease: { type: static, candidate: false }', '"lease.advertise-url" is ""'],
  ['lease: { type: static, databases: [a.db] }', 'candidate: false only'],
  [`{ ${STATIC}, data: { dir: /x }, fuse: { dir: /x } }`, '"fuse.dir" is "/x"'],
  [`{ ${STATIC}, log: { format: xml } }`, '"log.format" is "xml"'],
  [`{ ${STATIC}, exec: [{ command: x }] }`, '"exec[0]"'],
  [`{ ${STATIC}, exec: [{ cmd: x, if-candidate: maybe }] }`, '"exec[0].if-candidate" is "maybe"'],
  [`{ ${STATIC}, exec: 5 }`, '"exec" is 5'],
  [`{ ${STATIC}, fuse: { dir: "" } }`, '"fuse.dir" is ""'],
  [`{ ${STATIC}, fuse: { dir: /var/lib/litefs } }`, 'another directory than data.dir'],
  [`{ ${STATIC}, data: { dir: /litefs } }`, 'another directory than data.dir'],
  [`{ ${STATIC}, proxy: { target: "a:1", addr: ":1" } }`, '"proxy.db" is undefined'],
  [`{ ${STATIC}, proxy: { target: "a:1", db: a.db, addr: "" } }`, '"proxy.addr" is ""'],
  [`{ ${STATIC}, backup: { type: s3 } }`, '"backup.type" is "s3"'],
  [`{ ${STATIC}, http: { addr: [] } }`, '"http.addr" is [] It accepts a text.'],
  ['lease: { type: static, candidate: false, databases: [a.db, {}] }', '"lease.databases" is ["a.db",{}]'],
  ['lease: { type: static, candidate: false, databases: [null] }', '"lease.databases" is [null]'],
  ['data: *nowhere', 'litefs.yml: Unresolved alias'],
  [`${STATIC}\n---\nfuse: {}`, 'more than one YAML document'],
  [`# ${'x'.repeat(128 * 1024)}`, 'longer than'],
  ['', 'a map of keys and values'],
  ['- a', 'a map of keys and values'],
  ['a: [', 'litefs.yml: '],
  ['fuse: {}\nfuse: {}', 'litefs.yml: '],
])('%j is refused by name', (text, expected) => {
  const found = problem(() => parse(text))
  expect(found).toContain('INVALID_OPTION')
  expect(found.replace(/\n +/g, ' ')).toContain(expected)
})

test.each([
  ['1h30m', 5_400_000],
  ['1.5s', 1_500],
  ['500ms', 500],
  ['250us', 0.25],
  ['1\u00b5s', 0.001],
  ['1\u03bcs', 0.001],
  ['.5s', 500],
  ['1.s', 1_000],
  ['0', 0],
  ['-1s', -1_000],
])('the duration %s is %d ms', (text, ms) => {
  expect(parse(`{ ${STATIC}, data: { retention: "${text}" } }`).data.retention).toBe(ms)
})

test.each(['', '.', 's', '.s', '1', '1 s', '1d', '1s2', 's1', '1e3s', '--1s', '0x1s'])(
  'the text %j is no duration',
  (text) => {
    expect(problem(() => parse(`{ ${STATIC}, data: { retention: "${text}" } }`))).toContain('It accepts a duration')
  },
)

test('a text is what stands in the file, also where YAML sees a number', () => {
  const { lease } = parse(`
    lease:
      type: static
      hostname: 91857249e06683
      candidate: false
      advertise-url: "http://gru:20202"
      databases: [1.0, 007, true, 12345678901234567890]
      consul: { key: 2024.10 }`)
  expect(lease).toMatchObject({ hostname: '91857249e06683', 'consul.key': '2024.10' })
  expect(lease.databases).toEqual(['1.0', '007', 'true', '12345678901234567890'])
})

test('a key without a value is not given; a section, a flag and the programs too', () => {
  const { given, data } = parse(`${STATIC}\nexec:\nskip-sync:\nfuse:\ndata:\n  dir:\n  retention: ~`)
  expect(given).toEqual(['lease.type', 'lease.hostname', 'lease.advertise-url'])
  expect(data).toEqual({})
})

test('flags may be the words of YAML 1.1, and maps may be merged', () => {
  const text = `
data: &shared { compress: yes }
fuse: { allow-other: "off", debug: On }
tracing:
  <<: *shared
  enabled: no
${STATIC}`
  const { data, fuse, tracing } = parse(text)
  expect({ data, fuse, tracing }).toEqual({
    data: { compress: true },
    fuse: { 'allow-other': false, debug: true },
    tracing: { compress: true, enabled: false },
  })
})

test('programs are one command or a list; without a target the proxy has no needs', () => {
  expect(parse(`${STATIC}\nexec: "node server.js"`).given).toContain('exec')
  expect(parse(`${STATIC}\nexec: [{ cmd: a, if-candidate: yes }, { cmd: b }]`).given).toContain('exec')
  expect(parse(`${STATIC}\nproxy: { addr: ":1" }`).proxy).toEqual({ addr: ':1' })
})

test('variables are replaced as LiteFS does it', () => {
  const env = { A: 'x', B: 'x', C: 'y', PRIMARY_REGION: 'gru', FLY_REGION: 'gru' }
  const expand = (text: string): string => expandLiteFsVariables(text, env)
  expect(expand('$A ${A} ${ A } [$NONE] [${NONE}]')).toBe('x x x [] []')
  expect(expand("${A == 'x'} ${A != 'x'} ${A == 'z'}")).toBe('true false false')
  expect(expand('${A=="x"} ${NONE == ""} ${A == B} ${A != C} ${A == NONE}')).toBe('true true true true false')
  expect(expand('${FLY_REGION == PRIMARY_REGION}')).toBe('true')
  expect(expand('100$ $% a$')).toBe('100$ $% a$')
  expect(expand('[${}] [$$] [$1a] [$*] [${*}]')).toBe('[] [] [a] [] []')
  expect(expand('a ${A b')).toBe('a A b')
  expect(expand('[$toString] [${constructor}] ${toString == ""}')).toBe('[] [] true')
  expect(expand("${A == 'x} # '} ${A == 'it''s'}")).toBe(" # '} false")
  const text = 'lease:\n  type: static\n  candidate: ${FLY_REGION != PRIMARY_REGION}\n  advertise-url: http://$A:1'
  expect(parse(text, env).lease).toMatchObject({ candidate: false, 'advertise-url': 'http://x:1' })
  expect(problem(() => parseLiteFsConfig(text, 'litefs.yml', undefined))).toContain('lease.candidate')
})

test('a primary with a static lease', () => {
  const { config, ignored } = nodeOf(
    `{ ${STATIC}, data: { dir: /data, retention: 1h }, http: { addr: "127.0.0.1:5000" } }`,
  )
  expect(config).toEqual({
    dataDir: '/data/litefleet',
    lease: { kind: 'static', primary: true },
    listen: { host: '127.0.0.1', httpPort: 5_000 },
    interop: true,
    node: { name: 'gru' },
    advertise: { http: 'http://gru.internal:20202', grpc: 'gru.internal:4201' },
    log: { retentionMs: 3_600_000 },
  })
  expect(ignored).toEqual([])
})

test('a replica with a static lease: name and address in the file are the primary’s', () => {
  const { config } = nodeOf(
    'lease: { type: static, hostname: gru, advertise-url: "http://gru:20202", candidate: false, databases: [a.db] }',
  )
  expect(config).toEqual({
    dataDir: '/var/lib/litefs/litefleet',
    lease: { kind: 'static', primary: { url: 'http://gru:20202' } },
    listen: { host: '0.0.0.0', httpPort: 20_202 },
    interop: true,
    databases: [{ name: 'a.db' }],
  })
})

test('a node of an election through Consul', () => {
  const text = `
    lease: { type: consul, candidate: false, consul: { url: "http://consul:8500/x", key: k, ttl: 15s, lock-delay: 2s } }
    http: { addr: "[::1]:1" }
    proxy: { addr: ":1", target: "a:2", db: app.db }`
  const { config, ignored } = nodeOf(text)
  expect(config.lease).toEqual({
    kind: 'consul',
    url: 'http://consul:8500/x',
    key: 'k',
    ttlMs: 15_000,
    lockDelayMs: 2_000,
    candidate: false,
  })
  expect(config).toMatchObject({ listen: { host: '::1', httpPort: 1 }, databases: [{ name: 'app.db' }] })
  expect(ignored.map(({ key }) => key)).toEqual(['proxy.addr', 'proxy.target'])
})

test('under which address others reach a node', () => {
  const consul = (more: string): string => `{ lease: { type: consul, consul: { key: k }, ${more} } }`
  const advertise = (text: string, over: Partial<LiteFsSurroundings> = {}) => nodeOf(text, over).config.advertise
  expect(advertise(consul(''))).toEqual({ http: 'http://machine:20202', grpc: 'machine:4201' })
  expect(advertise(consul('hostname: gru'))).toEqual({ http: 'http://gru:20202', grpc: 'gru:4201' })
  expect(advertise(consul(''), { httpPort: 4200 })).toMatchObject({ http: 'http://machine:4200' })
  expect(advertise(consul(''), { httpPort: 0 })).toBeUndefined()
  expect(advertise(consul(''), { hostname: undefined })).toBeUndefined()
  expect(advertise(consul('advertise-url: "http://[fdaa::1]:1"'))).toEqual({
    http: 'http://[fdaa::1]:1',
    grpc: '[fdaa::1]:4201',
  })
  expect(advertise(`{ ${STATIC} }`, { grpcPort: 0 })).toEqual({ http: 'http://gru.internal:20202' })
  expect(advertise('lease: { type: static }')).toBeUndefined()
})

test.each([
  ['http: { addr: localhost }', '"http.addr" is "localhost"'],
  ['http: { addr: ":http" }', '"http.addr" is ":http"'],
  ['http: { addr: ":70000" }', '"http.addr" is ":70000"'],
  ['http: { addr: "::1:80" }', '"http.addr" is "::1:80"'],
])('%j is nothing that a Litefleet node can listen on', (text, expected) => {
  expect(parse(`{ ${STATIC}, ${text} }`).given).toContain('http.addr')
  expect(problem(() => nodeOf(`{ ${STATIC}, ${text} }`))).toContain(expected)
})

test('an address without a scheme is none', () => {
  const text = 'lease: { type: static, advertise-url: "gru:20202" }'
  expect(problem(() => nodeOf(text))).toContain('"lease.advertise-url" is "gru:20202"')
})

test('what is empty or 0 is not given', () => {
  const { config } = nodeOf(`
    lease: { type: consul, hostname: "", consul: { url: "", key: k, ttl: 0s, lock-delay: 0s } }
    http: { addr: "" }
    proxy: { db: "" }
    data: { retention: 250us }`)
  expect(config).toEqual({
    dataDir: '/var/lib/litefs/litefleet',
    lease: { kind: 'consul', key: 'k', candidate: true },
    listen: { host: '0.0.0.0', httpPort: 0 },
    interop: true,
    log: { retentionMs: 1 },
  })
})

test('what means nothing here is told, each with why', () => {
  const { ignored } = nodeOf(SAMPLE)
  expect(ignored.every(({ why }) => why !== '')).toBe(true)
  expect(ignored).toContainEqual({ key: 'fuse.dir', why: 'there is no mount' })
  expect(ignored).toContainEqual({ key: 'lease.promote', why: 'use "litefleet promote"' })
  expect(ignored).toContainEqual({ key: 'lease.consul.url', why: 'lease.type is static' })
  expect(ignored.map(({ key }) => key)).not.toContain('data.dir')
  expect(nodeOf(`{ ${STATIC}, data: { retention: "0" } }`).ignored).toMatchObject([{ key: 'data.retention' }])
})
