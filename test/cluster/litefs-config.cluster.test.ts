/** `litefleet run --litefs-config`: nodes from LiteFS's own file, each a process of its own; no LiteFS is needed. */
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { NodeCommands, run } from '../support/litefleet-command.ts'

const FREE_PORT = ['--grpc-port', '0'] as const
let directory = ''
let nodes = new NodeCommands()

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'litefleet-litefs-yml-'))
  nodes = new NodeCommands()
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await nodes.stopAll()
  rmSync(directory, { recursive: true })
})

function write(name: string, text: string): string {
  const file = path.join(directory, name)
  writeFileSync(file, text)
  return file
}

/** A primary when `REGION` is gru; what LiteFS alone needs stands there too. */
function writePrimary(): string {
  return write(
    'litefs.yml',
    `
exec: "node server.js"
fuse: { dir: /litefs }
data: { dir: "${directory}/$NAME", retention: 1h }
http: { addr: "127.0.0.1:0" }
proxy: { db: app.db }
lease:
  type: static
  hostname: $NAME
  candidate: \${REGION == 'gru'}
`,
  )
}

test('a primary and a replica, from two files with variables', async () => {
  vi.stubEnv('NAME', 'gru')
  vi.stubEnv('REGION', 'gru')
  const primary = await nodes.startNode('--litefs-config', writePrimary(), ...FREE_PORT)
  expect(primary.line).toContain('gru (local) is primary')
  vi.stubEnv('PRIMARY_URL', primary.http)
  const lhr = `{ data: { dir: "${directory}/lhr" }, http: { addr: "127.0.0.1:0" },
    lease: { type: static, candidate: false, advertise-url: "$PRIMARY_URL", databases: [app.db] } }`
  const replica = await nodes.startNode('--litefs-config', write('lhr.yml', lhr), '--name', 'lhr', ...FREE_PORT)
  expect(replica.line).toContain('lhr (local) is replica')
  expect(await replica.stop()).toMatchObject({ code: 0, err: '' })
  expect(await primary.stop()).toMatchObject({
    code: 0,
    err: 'litefs.yml: fuse.dir is ignored: there is no mount\nlitefs.yml: exec is ignored: the application opens its node itself\n',
  })
  // Below LiteFS's directory there is ours, and nothing else.
  expect(readdirSync(path.join(directory, 'gru'))).toEqual(['litefleet'])
})

test('flags win over the file', async () => {
  vi.stubEnv('NAME', 'gru')
  const file = writePrimary() // without REGION it is a replica of nobody
  expect(await run('run', '--litefs-config', file)).toMatchObject({
    code: 2,
    err: expect.stringContaining('lease.advertise-url'),
  })
  vi.stubEnv('REGION', 'gru')
  const data = path.join(directory, 'elsewhere')
  const node = await nodes.startNode('--litefs-config', file, '--name', 'fra', '--data-dir', data, ...FREE_PORT)
  expect(node.line).toContain('fra (local) is primary')
  expect(existsSync(data)).toBe(true)
  expect(existsSync(path.join(directory, 'gru'))).toBe(false)
})

test('what is refused, each with the file and the place', async () => {
  vi.stubEnv('LITEFLEET_CLUSTER_KEY', undefined)
  vi.stubEnv('NAME', 'gru')
  const refusal = async (...args: readonly string[]): Promise<string> => {
    const { code, err } = await run('run', ...args)
    expect(code).toBe(2)
    return err
  }
  expect(await refusal('--litefs-config', writePrimary(), '--no-expand-env')).toContain('litefs.yml: "lease.candidate"')
  expect(await refusal('--litefs-config', 'a.yml', '--config', 'b.yml')).toContain('exclude each other')
  const misspelt = write('misspelt.yml', 'lease: { type: static, candidat: true }')
  expect(await refusal('--litefs-config', misspelt)).toContain('misspelt.yml: lease: unknown key "candidat"')
  // As LiteFS does it, every address of the machine.
  const open = write(
    'open.yml',
    `{ data: { dir: "${directory}/open" }, http: { addr: ":0" }, lease: { type: static, advertise-url: "http://gru:20202" } }`,
  )
  expect(await run('run', '--litefs-config', open, ...FREE_PORT)).toMatchObject({
    code: 1,
    err: expect.stringContaining('INSECURE_LISTENER'),
  })
})
