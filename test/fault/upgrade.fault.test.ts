/**
 * I2, I9 over versions: what the first version left on disk is opened by this one, with every transaction and every position, and goes
 * on; what a newer version wrote is refused by name and left as it is.
 *
 * Real: data directories that the first version wrote (fixtures/data-dir-1/make.ts), of nodes that were stopped and of nodes that were
 * killed; nodes as processes. Modelled: the newer version, by a file that names it. Nothing may be lost.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { formatPosition } from '@litefleet/core'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { writeCrc } from '../../packages/core/src/log/segment-format.ts'
import { ProcessCluster } from '../support/process-cluster.ts'

const NAME = 'app.db'
const COUNT = 'SELECT count(*) FROM entry'
const INSERT = "INSERT INTO entry (body) VALUES (printf('%0500d', ?))"
const FIXTURE = path.join(import.meta.dirname, '../fixtures/data-dir-1')
const SEGMENT_HEADER_BYTES = 48

type Scene = 'stopped' | 'killed'

interface Expected {
  readonly clusterId: string
  readonly stopped: { readonly position: string; readonly rows: number }
  readonly killed: { readonly position: string; readonly rows: number }
}

const expected = JSON.parse(readFileSync(path.join(FIXTURE, 'expected.json'), 'utf8')) as Expected

let directory = ''
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'litefleet-upgrade-'))
  execFileSync('tar', ['-xzf', path.join(FIXTURE, 'data-dirs.tar.gz'), '-C', directory])
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

function newCluster(primary: Scene, replica: Scene): ProcessCluster {
  return new ProcessCluster({
    database: NAME,
    places: [
      { dataDir: path.join(directory, primary, 'primary') },
      { dataDir: path.join(directory, replica, 'replica') },
    ],
  })
}

const versionOf = (file: string): number => readFileSync(file).readUInt32BE(4)

/** Another version in a header that is whole. */
function setVersion(file: string, version: number, crcAt: number): void {
  const bytes = readFileSync(file)
  bytes.writeUInt32BE(version, 4)
  writeCrc(bytes, 0, crcAt < 0 ? bytes.length + crcAt : crcAt)
  writeFileSync(file, bytes)
}

describe('a data directory of the first version', () => {
  test.each<{ primary: Scene; replica: Scene; warns: readonly string[] }>([
    { primary: 'stopped', replica: 'stopped', warns: [] },
    { primary: 'killed', replica: 'killed', warns: ['log-cut'] },
    // The replica gets what it is missing from segments of version 1.
    { primary: 'killed', replica: 'stopped', warns: ['log-cut'] },
  ])('of a primary that was $primary and a replica that was $replica goes on where it was', async (given) => {
    await using cluster = newCluster(given.primary, given.replica)
    const { position, rows } = expected[given.primary]
    await cluster.startNode(0)
    expect(formatPosition((await cluster.primary.facts(NAME)).position)).toBe(position)
    await cluster.startNode(1)
    await cluster.settle(1)
    expect(formatPosition((await cluster.node(1).facts(NAME)).position)).toBe(position)
    for (const index of [0, 1]) {
      expect((await cluster.node(index).status()).clusterId).toBe(expected.clusterId)
      expect(await cluster.node(index).read(NAME, COUNT)).toEqual([[rows]])
      expect(await cluster.logStart(index)).toBe(1)
    }
    const old = [0, 1].map((index) => cluster.segmentsOf(index).length)
    for (let i = 0; i < 5; i++) await cluster.node(1).run(NAME, INSERT, [i])
    await cluster.expectEqual(1)
    // Nothing of a newer version is written into a segment of version 1.
    for (const index of [0, 1]) {
      const versions = cluster.segmentsOf(index).map(versionOf)
      expect(versions.slice(0, old[index])).toEqual(Array(old[index]).fill(1))
      expect(versions.length).toBeGreaterThanOrEqual(old[index] ?? 0)
    }
    expect(cluster.warningsOf().map(({ name }) => name)).toEqual(given.warns)
    for (const index of [1, 0]) await cluster.node(index).kill()
    for (const index of [0, 1]) await cluster.startNode(index)
    await cluster.node(1).run(NAME, INSERT, [9])
    await cluster.expectEqual(1)
    expect(await cluster.node(1).read(NAME, COUNT)).toEqual([[rows + 6]])
    expect(await cluster.logStart(0)).toBe(1)
  })

  test('of a replica alone serves what it has while its primary is away', async () => {
    await using cluster = newCluster('stopped', 'killed')
    await cluster.startNode(0)
    await cluster.primary.stop()
    await cluster.startNode(1)
    expect(await cluster.node(1).read(NAME, COUNT)).toEqual([[expected.killed.rows]])
    expect(formatPosition((await cluster.node(1).facts(NAME)).position)).toBe(expected.killed.position)
  })
})

describe('a data directory that a newer version wrote', () => {
  test.each([0, 1])('is refused by the name of the file, and left as it is (node %i)', async (index) => {
    await using cluster = newCluster('stopped', 'stopped')
    await cluster.startNode(0)
    const changes: readonly [string, () => void][] = [
      [
        cluster.pathOf(index, 'segment'),
        () => setVersion(cluster.pathOf(index, 'segment'), 9, SEGMENT_HEADER_BYTES - 8),
      ],
      [cluster.pathOf(index, 'epochs'), () => setVersion(cluster.pathOf(index, 'epochs'), 9, -8)],
    ]
    if (index === 0) await cluster.primary.stop()
    for (const [file, change] of changes) {
      const before = readFileSync(file)
      change()
      const newer = readFileSync(file)
      await expect(cluster.startNode(index)).rejects.toMatchObject({
        code: 'UNSUPPORTED_FORMAT',
        message: expect.stringMatching(/format version 9; this version reads up to \d/),
        details: expect.objectContaining({ file, found: 9 }),
      })
      await cluster.node(index).kill() // a replica goes on without the database
      expect(readFileSync(file)).toEqual(newer)
      writeFileSync(file, before)
    }
    await cluster.startNode(index)
    if (index === 0) await cluster.startNode(1)
    await cluster.expectEqual(1)
    expect(cluster.warningsOf()).toEqual([])
  })
})
