/** The command line against real nodes, each a process of its own, as an operator uses it. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { formatPosition } from '@litefleet/core'
import { sendWrite } from '@litefleet/core/peer'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { NodeCommands, run, type RunningNode } from '../support/litefleet-command.ts'

interface StatusJson {
  readonly clusterId: string
  readonly nodes: readonly {
    readonly name: string
    readonly region: string
    readonly role: string
    readonly error: string | null
    readonly databases: readonly {
      readonly name: string
      readonly txid: string
      readonly checksum: string
      readonly replicas: readonly { readonly name: string; readonly counted: boolean }[]
    }[]
  }[]
}

const FREE_PORTS = ['--http-port', '0', '--grpc-port', '0'] as const
const REPLICA_FLAGS = ['--name', 'lhr', '--database', 'app.db', ...FREE_PORTS] as const
let directory = ''
let nodes = new NodeCommands()

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'litefleet-cli-'))
  nodes = new NodeCommands()
})
afterEach(async () => {
  await nodes.stopAll()
  rmSync(directory, { recursive: true })
})

function startPrimary(...args: readonly string[]): Promise<RunningNode> {
  const data = path.join(directory, 'gru')
  return nodes.startNode('--data-dir', data, '--name', 'gru', '--region', 'sa', '--primary', ...FREE_PORTS, ...args)
}

/** A migration that makes one table with one row. */
function writeMigration(): string {
  const file = path.join(directory, '001-notes.sql')
  writeFileSync(file, "CREATE TABLE notes (text TEXT NOT NULL);\nINSERT INTO notes VALUES ('first');\n")
  return directory
}

async function statusOf(grpc: string): Promise<StatusJson> {
  const { code, out, err } = await run('status', '--node', grpc, '--json')
  expect({ code, err }).toEqual({ code: 0, err: '' })
  return JSON.parse(out) as StatusJson
}

test('two nodes from flags and from a file: status shows both, with one position', async () => {
  const primary = await startPrimary('--database', 'app.db', '--migrations', writeMigration())
  const config = path.join(directory, 'lhr.yml')
  writeFileSync(
    config,
    `
dataDir: ./lhr
node: { name: lhr, region: eu }
lease: { kind: static, primary: { url: "${primary.http}" } }
listen: { grpcPort: 0, httpPort: 0 }
databases: [app.db]
`,
  )
  const replica = await nodes.startNode('--config', config)
  expect(primary.line).toContain('gru (sa) is primary')
  expect(replica.line).toContain('lhr (eu) is replica')

  await expect
    .poll(async () => (await statusOf(primary.grpc)).nodes.map((node) => node.databases[0]?.txid), { timeout: 20_000 })
    .toEqual([expect.stringMatching(/^0{15}[1-9a-f]$/), expect.stringMatching(/^0{15}[1-9a-f]$/)])
  // The same from either node: the primary first, then the replica.
  for (const { grpc } of [primary, replica]) {
    await expect
      .poll(
        async () => (await statusOf(grpc)).nodes.map(({ name, region, role, error }) => [name, region, role, error]),
        {
          timeout: 20_000,
        },
      )
      .toEqual([
        ['gru', 'sa', 'primary', null],
        ['lhr', 'eu', 'replica', null],
      ])
  }
  const { clusterId, nodes: seen } = await statusOf(replica.grpc)
  expect(clusterId).toMatch(/^LFSC[0-9A-F]{16}$/)
  expect(seen[0]?.databases[0]?.checksum).toBe(seen[1]?.databases[0]?.checksum)
  expect(seen[0]?.databases[0]?.replicas).toMatchObject([{ name: 'lhr', counted: true }])

  const table = (await run('status', '--node', replica.grpc)).out.trimEnd().split('\n')
  expect(table[0]).toMatch(/^NODE +REGION +ROLE +DATABASE +TXID +CHECKSUM +LAG +REPLICAS$/)
  expect(table[1]).toMatch(/^gru +sa +primary +app\.db +[0-9a-f]{16} +[0-9a-f]{16} +- +lhr$/)
  expect(table[2]).toMatch(/^lhr +eu +replica +app\.db +[0-9a-f]{16} +[0-9a-f]{16} +[0-9.]+ ms$/)
})

test('a member that is gone is listed as unreachable, and the command still succeeds', async () => {
  const primary = await startPrimary('--database', 'app.db')
  const replica = await nodes.startNode(
    ...REPLICA_FLAGS,
    '--data-dir',
    path.join(directory, 'lhr'),
    '--replica-of',
    primary.http,
  )
  await expect.poll(async () => (await statusOf(replica.grpc)).nodes.length, { timeout: 20_000 }).toBe(2)
  await primary.stop()
  const { nodes: seen } = await statusOf(replica.grpc)
  expect(seen.find((node) => node.name === 'gru')?.error).toEqual(expect.any(String))
  expect(seen.find((node) => node.name === 'lhr')?.error).toBeNull()
})

test('SIGTERM closes a node cleanly, and its log verifies offline', async () => {
  const primary = await startPrimary('--database', 'app.db', '--migrations', writeMigration())
  const { code, out, err } = await primary.stop()
  expect({ code, err }).toEqual({ code: 0, err: '' })
  expect(out).toMatch(/closed\n$/)
  const database = path.join(directory, 'gru/main/dbs/app.db')
  const verified = await run('ltx', 'verify', database)
  expect(verified).toMatchObject({ code: 0, err: '' })
  expect(verified.out).toMatch(/^ok: [1-9]\d* LTX, up to [0-9a-f]{16}\/[0-9a-f]{16}\n$/)
  const dumped = (await run('ltx', 'dump', '--json', database)).out.trimEnd().split('\n')
  const first = JSON.parse(dumped[0] ?? '') as { epoch: number }
  expect(first).toMatchObject({ minTxid: '0000000000000002', pageSize: 4096 })
  // A static lease takes its epochs from the clock.
  expect(Date.now() - first.epoch).toBeGreaterThanOrEqual(0)
  expect(readFileSync(path.join(directory, 'gru/clusterid'), 'utf8')).toMatch(/^LFSC[0-9A-F]{16}\n$/)
})

test('a data directory that is in use, and a listener beyond loopback without a key: refused with the way out', async () => {
  await startPrimary()
  const data = path.join(directory, 'gru')
  const second = await run('run', '--data-dir', data, '--primary', ...FREE_PORTS)
  expect(second.code).toBe(1)
  expect(second.err).toContain('DATA_DIR_IN_USE')
  const open = await run(
    'run',
    '--data-dir',
    path.join(directory, 'x'),
    '--primary',
    '--host',
    '0.0.0.0',
    ...FREE_PORTS,
  )
  expect(open.code).toBe(1)
  expect(open.err).toContain('INSECURE_LISTENER')
})

test('resolve tells what became of a write, on any node, and gives up what was not applied', async () => {
  const primary = await startPrimary('--database', 'app.db', '--migrations', writeMigration())
  const replicaDir = path.join(directory, 'lhr')
  const replica = await nodes.startNode(...REPLICA_FLAGS, '--data-dir', replicaDir, '--replica-of', primary.http)
  const statements = [{ sql: 'INSERT INTO notes VALUES (?) RETURNING text', params: ['kept'] }]
  const write = (requestId?: string) =>
    sendWrite(replica.grpc, { database: 'app.db', operation: { kind: 'batch', statements }, requestId }, { keys: [] })
  const { requestId = '', position } = await write()
  const resolve = (node: RunningNode, id: string, ...flags: readonly string[]) =>
    run('resolve', '--node', node.grpc, '--database', 'app.db', ...flags, id)

  const applied = await resolve(replica, requestId)
  expect(applied).toMatchObject({ code: 0, err: '' })
  expect(applied.out).toContain('applied: contained in')
  expect(applied.out).toContain('[{"text":"kept"}]')
  const told = JSON.parse((await resolve(primary, requestId, '--json')).out) as Record<string, unknown>
  expect(told).toMatchObject({ database: 'app.db', requestId, outcome: 'applied', result: { kind: 'batch' } })
  expect(told['position']).toBe(formatPosition(position))

  const lost = `${requestId.slice(0, -4)}ffff`
  const givenUp = await resolve(replica, lost)
  expect(givenUp.code).toBe(0)
  expect(givenUp.out).toMatch(/^not applied, and never will be/)
  await expect(write(lost)).rejects.toMatchObject({ code: 'REQUEST_ABANDONED' })

  const old = `${'0'.repeat(11)}1${requestId.slice(12)}`
  const forgotten = await resolve(replica, old)
  expect(forgotten.code).toBe(1)
  expect(forgotten.err).toContain('REQUEST_TOO_OLD')
})

test('nodes that elect their primary: handoff, promote and demote move the office, status says what keeps a node from it', async () => {
  const lease = path.join(directory, 'lease')
  const start = (name: string) =>
    nodes.startNode('--data-dir', path.join(directory, name), '--name', name, '--host-lease', lease, ...FREE_PORTS)
  const [a, b] = [await start('a'), await start('b')]
  const primaryIs = (name: string) =>
    expect
      .poll(async () => (await statusOf(a.grpc)).nodes.map((node) => [node.name, node.role]), { timeout: 20_000 })
      .toEqual([
        [name, 'primary'],
        [name === 'a' ? 'b' : 'a', 'replica'],
      ])
  await primaryIs('a')
  const said = (primary: string) => ({ code: 0, out: `${primary} is the primary\n`, err: '' })
  expect(await run('handoff', '--node', b.grpc, '--to', 'b')).toEqual(said('b'))
  await primaryIs('b')
  expect(await run('promote', '--node', a.grpc)).toEqual(said('a'))
  await primaryIs('a')
  const refused = await run('demote', '--node', b.grpc)
  expect(refused.code).toBe(1)
  expect(refused.err).toContain('NOT_PRIMARY')
  expect(await run('demote', '--node', a.grpc)).toEqual(said('b'))
  const json = await run('handoff', '--node', a.grpc, '--json')
  expect(JSON.parse(json.out)).toEqual({ primary: 'a' })
  const nobody = await run('handoff', '--node', a.grpc, '--to', 'c', '--timeout', '300')
  expect(nobody.code).toBe(1)
  expect(nobody.err).toMatch(/HANDOFF_FAILED.*"c" is not connected/)
  // The last one to stop is the only one that has everything.
  expect((await b.stop()).code).toBe(0)
  expect((await a.stop()).code).toBe(0)
  const late = await start('b')
  await expect
    .poll(async () => (await run('status', '--node', late.grpc)).out, { timeout: 20_000 })
    .toMatch(/node b is (detached|candidate): .*this node may be behind, and a did not answer/)
  expect(await run('promote', '--node', late.grpc, '--accept-loss')).toEqual(said('b'))
})

test('with a cluster key, status needs the key', async () => {
  const key = path.join(directory, 'key')
  writeFileSync(key, 'a-secret-shared-by-all-nodes\n')
  const primary = await startPrimary('--database', 'app.db', '--cluster-key-file', key)
  const without = await run('status', '--node', primary.grpc)
  expect(without.code).toBe(1)
  expect(without.err).toContain('UNAUTHENTICATED')
  const given = await run('status', '--node', primary.grpc, '--cluster-key-file', key)
  expect(given.code).toBe(0)
})
