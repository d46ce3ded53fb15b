/**
 * A database as a file, from either kind of node with either kind of tool.
 *
 * Real: LiteFS 0.5.14 with its mount and its command line, nodes as processes, our command line.
 */
import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { formatPosition } from '@litefleet/core'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { LITEFS } from '../support/go-programs.ts'
import { imageOf, integrityOf } from '../support/images.ts'
import { run } from '../support/litefleet-command.ts'
import { LiteFsNode, whyNoLiteFs } from '../support/litefs.ts'
import { ProcessCluster } from '../support/process-cluster.ts'

const NAME = 'app.db'
const KEY = 'a cluster key of enough length'
const CREATE = 'CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT)'
const FILL =
  'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) INSERT INTO note (body) SELECT hex(randomblob(200)) FROM n'

describe.skipIf(whyNoLiteFs() !== undefined)('with a real LiteFS', () => {
  let directory: string
  let file: string
  let cluster: ProcessCluster | undefined
  let litefs: LiteFsNode | undefined

  beforeEach(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'litefleet-export-'))
    file = path.join(directory, 'out.db')
  })
  afterEach(async () => {
    await cluster?.close()
    await litefs?.close()
    cluster = litefs = undefined
    rmSync(directory, { recursive: true })
  })

  async function startNode(clusterKey?: string): Promise<ProcessCluster> {
    cluster = await ProcessCluster.start(1, { database: NAME, clusterKey })
    await cluster.primary.run(NAME, CREATE)
    await cluster.primary.run(NAME, FILL)
    return cluster
  }

  test('litefs export takes one from a Litefleet node', async () => {
    const { primaryUrl, fileOf } = await startNode()
    await promisify(execFile)(LITEFS.file, ['export', '-url', primaryUrl, '-name', NAME, file])
    expect(readFileSync(file).equals(imageOf(fileOf.call(cluster, 0)))).toBe(true)
  })

  test('litefleet export takes one from a LiteFS node', async () => {
    litefs = await LiteFsNode.start()
    await litefs.sql(NAME, `PRAGMA journal_mode = wal; ${CREATE}; ${FILL}`)
    const { code, out } = await run('export', '--name', NAME, '--url', litefs.url, file)
    expect({ code, out }).toEqual({ code: 0, out: `${file}: ${readFileSync(file).length} bytes\n` })
    expect(integrityOf(file)).toBe('ok')
  })

  test('litefleet export takes one from a Litefleet node: with its position, over nothing that is there, whole or not at all', async () => {
    const node = await startNode(KEY)
    const keyFile = path.join(directory, 'key')
    writeFileSync(keyFile, KEY)
    const from = ['--name', NAME, '--url', node.primaryUrl]
    const refused = await run('export', ...from, file)
    expect(refused).toMatchObject({ code: 1, err: expect.stringContaining('401 cluster token required') })
    const flags = [...from, '--cluster-key-file', keyFile, file]
    const { position } = await node.primary.facts(NAME)
    const first = await run('export', '--json', ...flags)
    expect(JSON.parse(first.out)).toEqual({
      file,
      bytes: readFileSync(file).length,
      position: formatPosition(position),
    })
    expect(readFileSync(file).equals(imageOf(node.fileOf(0)))).toBe(true)
    writeFileSync(`${file}-wal`, 'of another database')
    const second = await run('export', ...flags)
    expect(second).toMatchObject({ code: 2, err: expect.stringContaining(`${file}-wal exists already`) })
    const forced = await run('export', '--force', ...flags)
    expect(forced.code).toBe(0)
    expect(existsSync(`${file}-wal`)).toBe(false)
    const missing = await run('export', '--name', 'nothing.db', ...flags.slice(2), '--force')
    expect(missing).toMatchObject({ code: 1, err: expect.stringContaining('404 database not found') })
    expect(readdirSync(directory).toSorted()).toEqual(['key', 'out.db'])
    expect(integrityOf(file)).toBe('ok')
  })
})
