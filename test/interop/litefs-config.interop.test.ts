/**
 * Moving a node from LiteFS to Litefleet and back is changing one flag: both run on one `litefs.yml`, one after the other.
 *
 * Real: LiteFS 0.5.14 with its mount, and the command line.
 */
import { formatPosition } from '@litefleet/core'
import { afterEach, describe, expect, test } from 'vitest'
import { NodeCommands, run } from '../support/litefleet-command.ts'
import { LiteFsNode, whyNoLiteFs } from '../support/litefs.ts'

const NAME = 'app.db'
const POLL = { timeout: 30_000, interval: 100 }

describe.skipIf(whyNoLiteFs() !== undefined)('with a real LiteFS', () => {
  const commands = new NodeCommands()
  const nodes: LiteFsNode[] = []
  afterEach(async () => {
    await commands.stopAll()
    for (const node of nodes.splice(0)) await node.close()
  })

  async function positionOf(grpc: string): Promise<unknown> {
    const { out } = await run('status', '--json', '--node', grpc)
    const status = JSON.parse(out) as { nodes: [{ databases: { txid: string; checksum: string }[] }] }
    const [database] = status.nodes[0].databases
    return `${database?.txid}/${database?.checksum}`
  }

  test('a replica', async () => {
    const primary = await LiteFsNode.start()
    nodes.push(primary)
    await primary.sql(NAME, "PRAGMA journal_mode = wal; CREATE TABLE note (text); INSERT INTO note VALUES ('first')")
    const replica = await LiteFsNode.replicaOf(primary.url)
    nodes.push(replica)
    await replica.stop()
    const flags = ['--litefs-config', replica.configFile, '--grpc-port', '0', '--name', 'lhr', '--database', NAME]
    const node = await commands.startNode(...flags)
    expect(node).toMatchObject({ line: expect.stringContaining('lhr (local) is replica'), http: replica.url })
    await primary.sql(NAME, "INSERT INTO note VALUES ('second')")
    const there = formatPosition(primary.position(NAME)!)
    await expect.poll(() => positionOf(node.grpc), POLL).toBe(there)
    const { code, err } = await node.stop()
    expect(code).toBe(0)
    expect(err).toBe('litefs.yml: fuse.dir is ignored: there is no mount\n')
    // And back: what Litefleet keeps in its directory is nothing to LiteFS.
    await primary.sql(NAME, "INSERT INTO note VALUES ('third')")
    await replica.start()
    await expect.poll(() => replica.sql(NAME, 'SELECT count(*) FROM note'), POLL).toBe('3')
  })

  test('a file that is wrong is refused with the place, and beside --config', async () => {
    const both = await run('run', '--config', 'a.yml', '--litefs-config', 'b.yml')
    expect(both).toMatchObject({ code: 2, err: expect.stringContaining('exclude each other') })
    const missing = await run('run', '--litefs-config', '/nowhere/litefs.yml')
    expect(missing).toMatchObject({ code: 2, err: expect.stringContaining('/nowhere/litefs.yml cannot be read') })
  })
})
