import { expect, test } from 'vitest'
import { main } from './main.ts'
import { configOfFlags } from './run-command.ts'

async function run(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const out: string[] = []
  const err: string[] = []
  const code = await main(args, { out: (text) => out.push(text), err: (text) => err.push(text) })
  return { code, out: out.join('\n'), err: err.join('\n') }
}

test('help lists the verbs and ends well', async () => {
  const { code, out } = await run('--help')
  expect(code).toBe(0)
  for (const verb of ['status', 'run', 'resolve', 'ltx']) expect(out).toContain(verb)
})

test('the version is that of the package', async () => {
  expect(await run('--version')).toEqual({ code: 0, out: expect.stringMatching(/^\d+\.\d+\.\d+$/), err: '' })
})

test.each(['status', 'run', 'resolve', 'ltx'])('the help of %s has examples', async (verb) => {
  expect((await run('help', verb)).out).toContain(`litefleet ${verb}`)
})

test.each([
  [['stauts'], "unknown command 'stauts'"],
  [['status', '--nod', 'x'], "unknown option '--nod'"],
  [['run', '--http-port', 'x'], 'It accepts a port number'],
  [['run', '--primary'], 'the data directory is missing'],
  [['run', '--data-dir', '/nowhere/x'], 'the lease is missing'],
  [['run', '--primary', '--replica-of', 'http://x:1'], 'exclude each other'],
  [['run', '--config', '/nowhere/x.yml'], 'ENOENT'],
  [['ltx', 'verify'], "missing required argument 'path'"],
  [['resolve', '--database', 'app.db'], "missing required argument 'request-id'"],
  [['resolve', '--database', 'app.db', 'xyz'], 'It accepts 32 lowercase hex digits'],
  [['resolve', '0192aabbccdd11223344556600000001'], "required option '--database <name>'"],
])('%j is a usage error and says what is wrong', async (args, message) => {
  const { code, err } = await run(...args)
  expect(code).toBe(2)
  expect(err).toContain(message)
})

test('a file that is not there is a failure, not a usage error', async () => {
  expect(await run('ltx', 'dump', '/nowhere/x.ltx')).toEqual({
    code: 1,
    out: '',
    err: expect.stringContaining('ENOENT'),
  })
})

test('a node that does not answer is a failure that names its address', async () => {
  const { code, err } = await run('status', '--node', '127.0.0.1:1')
  expect(code).toBe(1)
  expect(err).toContain('127.0.0.1:1')
})

test('a write that cannot be resolved now is a failure that says why, and that it may be asked again', async () => {
  const id = '0192aabbccdd11223344556600000001'
  const { code, err } = await run('resolve', '--node', '127.0.0.1:1', '--timeout', '500', '--database', 'app.db', id)
  expect(code).toBe(1)
  for (const part of ['WRITE_OUTCOME_UNKNOWN', id, '127.0.0.1:1', 'Ask again']) expect(err).toContain(part)
})

test('flags become the configuration they stand for', () => {
  const config = configOfFlags({
    dataDir: 'd',
    name: 'n',
    replicaOf: 'http://x:1',
    httpPort: 0,
    advertiseGrpc: 'y:2',
    database: ['a.db'],
    migrations: '/m',
    voter: ['n', 'o', 'p'],
    peer: ['z:3'],
    etcd: [],
  })
  expect(config).toEqual({
    dataDir: 'd',
    node: { name: 'n' },
    lease: { kind: 'static', primary: { url: 'http://x:1' } },
    listen: { httpPort: 0 },
    advertise: { grpc: 'y:2' },
    voters: ['n', 'o', 'p'],
    peers: ['z:3'],
    databases: [{ name: 'a.db', migrations: '/m' }],
  })
  const none = { database: [], voter: [], peer: [], etcd: [] }
  expect(configOfFlags(none)).toEqual({})
  expect(configOfFlags({ ...none, hostLease: 'l', candidate: false })).toEqual({
    lease: { kind: 'host', directory: 'l', candidate: false },
  })
  expect(configOfFlags({ ...none, etcd: ['http://e:1', 'http://f:1'], candidate: true })).toEqual({
    lease: { kind: 'etcd', endpoints: ['http://e:1', 'http://f:1'] },
  })
  expect(() => configOfFlags({ ...none, hostLease: 'l', primary: true })).toThrow(/exclude each other/)
})
