import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { systemClock } from '../base/clock.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import { type Disk, realDisk } from '../files/disk.ts'
import type { LtxRecord } from '../ltx/ltx-record.ts'
import type { PageChecksums } from '../ltx/page-checksums.ts'
import { type Checksum, checksum } from '../position/checksum.ts'
import { type Position, ZERO_POSITION } from '../position/position.ts'
import { nextTxid } from '../position/txid.ts'
import { type Connection, openConnection } from '../sqlite/connection.ts'
import { SqliteDatabase } from '../sqlite/sqlite-library.ts'
import {
  encodeWalIndexHeader,
  parseWalIndexHeader,
  WAL_INDEX_BLOCK_BYTES,
  WAL_INDEX_HEADER_BYTES,
  WAL_INDEX_PREFIX_BYTES,
} from '../sqlite-format/wal-index.ts'
import { ReplicaWriteLock } from './replica-write-lock.ts'
import { resolveApplyOptions } from './apply-options.ts'
import { createBank, transfer } from './test-support/bank.ts'
import { builderFor, checksumsOf, differingPages, RecordSource } from './test-support/record-source.ts'
import { TestReplica } from './test-support/test-replica.ts'
import { WalApplier } from './wal-applier.ts'

const PAGE_SIZE = 4096

let directory: string
let source: RecordSource
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'apply-'))
  source = new RecordSource(path.join(directory, 'primary.db'), { pageSize: PAGE_SIZE })
  source.commit(createBank)
})
afterEach(() => {
  source.close()
  fs.rmSync(directory, { recursive: true })
})

function replicaAt(options: { disk?: Disk; pageSize?: number } = {}): TestReplica {
  return TestReplica.createEmpty({ path: path.join(directory, 'replica.db'), pageSize: PAGE_SIZE, ...options })
}

function transfers(count: number): readonly LtxRecord[] {
  const first = source.records.length
  for (let i = 0; i < count; i++) source.commit((database) => transfer(database, first + i))
  return source.records.slice(first)
}

/** A record of `pages` (page number → content) on top of the source's position, with the checksum it would have or another. */
function recordOf(
  pages: ReadonlyMap<number, Buffer>,
  o: { commit?: number; post?: bigint; pre?: bigint } = {},
): LtxRecord {
  const { txid, checksum: before } = source.position
  const commit = o.commit ?? source.image.length / PAGE_SIZE
  const pre = checksum(o.pre ?? before)
  const builder = builderFor(nextTxid(txid), pre, commit, pages.size, PAGE_SIZE)
  for (const [pgno, page] of pages) builder.addPage(pgno, page, 0)
  const computed = source.checksums.apply([...pages.keys()], builder.pageChecksums, commit)
  return builder.finish(checksum(o.post ?? computed))
}

/** A change of one row's page that SQLite would read without complaint. */
function changedPage(pgno: number): Buffer {
  const page = Buffer.from(source.image.subarray((pgno - 1) * PAGE_SIZE, pgno * PAGE_SIZE))
  page.writeUInt8(page.readUInt8(PAGE_SIZE - 1) ^ 1, PAGE_SIZE - 1)
  return page
}

function codeOf(work: () => void): { code: string; details: unknown } {
  try {
    work()
  } catch (error) {
    if (error instanceof ClusterError) return { code: error.code, details: error.details }
    throw error
  }
  return { code: 'none', details: undefined }
}

describe('apply', () => {
  test('all records of one call become visible as one version', () => {
    const replica = replicaAt()
    replica.applier.apply(source.records)
    const before = readHeader(replica)
    const reader = new SqliteDatabase(replica.path, { readonly: true })
    const version = reader.prepare('SELECT v FROM version').pluck()
    expect(version.get()).toBe(0)
    replica.applier.apply(transfers(10))
    expect(version.get()).toBe(10)
    expect(readHeader(replica)?.change).toBe((before?.change ?? 0) + 1)
    expect(replica.applier.position).toEqual(source.position)
    expect(replica.applier.checksums.checksum).toBe(source.position.checksum)
    reader.close()
    replica.close()
  })

  test('no records: nothing happens', () => {
    const replica = replicaAt()
    replica.applier.apply([])
    expect(replica.applier.walFrames).toBe(0)
    replica.close()
  })

  test('a record without pages moves the position alone', () => {
    const replica = replicaAt()
    replica.applier.apply(source.records)
    const { walFrames } = replica.applier
    const record = recordOf(new Map())
    replica.applier.apply([record])
    expect(replica.applier.position).toEqual(record.postApply)
    expect(replica.applier.walFrames).toBe(walFrames)
    replica.close()
  })

  test('page 1 of a primary in rollback-journal mode is written in WAL mode, and counts as what it came as', () => {
    const replica = replicaAt()
    replica.applier.apply(source.records)
    const ofRollback = Buffer.from(source.image.subarray(0, PAGE_SIZE))
    ofRollback.fill(1, 18, 20)
    const record = recordOf(new Map([[1, ofRollback]]))
    replica.applier.apply([record])
    expect(replica.image().equals(source.image)).toBe(true)
    expect(replica.applier.position).toEqual(record.postApply)
    expect(replica.applier.checksums.checksum).toBe(record.postApply.checksum)
    replica.close()
  })

  test('a record that is refused leaves position, checksums, WAL and readers as they were, and the right one follows', () => {
    const replica = replicaAt()
    replica.applier.apply(source.records)
    const image = replica.image()
    const { position, walFrames } = replica.applier
    const checksums = replica.applier.checksums.toBuffer()
    const walBytes = fs.statSync(`${replica.path}-wal`).size
    const otherFormat = Buffer.from(source.image.subarray(0, PAGE_SIZE))
    otherFormat.fill(3, 18, 20)
    const flag = 1n << 63n
    const good = recordOf(new Map([[2, changedPage(2)]]))
    const refused: readonly [readonly LtxRecord[], string, object][] = [
      [
        [recordOf(new Map([[2, changedPage(2)]]), { post: flag | 5n })],
        'CORRUPT_DATA',
        { expected: '8000000000000005' },
      ],
      [[recordOf(new Map([[2, changedPage(2)]]), { pre: flag | 5n })], 'POSITION_DIVERGED', {}],
      [[good, good], 'POSITION_DIVERGED', {}],
      [[recordOf(new Map([[1, otherFormat]]))], 'UNSUPPORTED_RECORD', { reason: 'file-format' }],
      [[recordOf(new Map(), { commit: 0, post: flag })], 'UNSUPPORTED_RECORD', { reason: 'dropped-database' }],
      [[recordOf(new Map(), { commit: 2 })], 'UNSUPPORTED_RECORD', { reason: 'no-pages' }],
      [
        [recordOf(new Map([[2, changedPage(2)]]), { commit: 9_999 })],
        'UNSUPPORTED_RECORD',
        { reason: 'missing-pages' },
      ],
      [[recordOfOtherPageSize()], 'UNSUPPORTED_RECORD', { reason: 'page-size' }],
    ]
    for (const [records, code, details] of refused) {
      expect(codeOf(() => replica.applier.apply(records))).toEqual({ code, details: expect.objectContaining(details) })
      expect(replica.applier.position).toEqual(position)
      expect(replica.applier.walFrames).toBe(walFrames)
      expect(replica.applier.checksums.toBuffer().equals(checksums)).toBe(true)
      expect(fs.statSync(`${replica.path}-wal`).size).toBe(walBytes)
      expect(replica.image().equals(image)).toBe(true)
    }
    replica.applier.apply(transfers(3))
    expect(replica.image().equals(source.image)).toBe(true)
    replica.close()
  })

  test('a shrinking database: checksums of the pages cut off go, also when the record after it is refused', () => {
    const replica = replicaAt()
    transfers(30)
    replica.applier.apply(source.records)
    const before = replica.applier.checksums.toBuffer()
    const kept = source.records.length
    source.commit((database) => database.exec('DELETE FROM account WHERE id > 100; VACUUM'))
    const shrinking = source.records.slice(kept)
    expect(source.image.length).toBeLessThan(before.length * (PAGE_SIZE / 8))
    const bad = recordOf(new Map([[2, changedPage(2)]]), { post: 1n << 63n })
    expect(codeOf(() => replica.applier.apply([...shrinking, bad])).code).toBe('CORRUPT_DATA')
    expect(replica.applier.checksums.toBuffer().equals(before)).toBe(true)
    replica.applier.apply(shrinking)
    expect(replica.applier.checksums.toBuffer().equals(source.checksums.toBuffer())).toBe(true)
    expect(replica.image().equals(source.image)).toBe(true)
    replica.close()
  })

  test('a disk that refuses frames: nothing happened, and the same records apply later', () => {
    const disk = failingDisk('apply.write-frames')
    const replica = replicaAt({ disk })
    replica.applier.apply(source.records)
    const image = replica.image()
    const { walFrames } = replica.applier
    const records = transfers(2)
    disk.isFailing = true
    expect(codeOf(() => replica.applier.apply(records)).code).toBe('STORAGE_FAILED')
    expect(replica.image().equals(image)).toBe(true)
    disk.isFailing = false
    replica.applier.apply(records)
    expect(replica.applier.walFrames).toBe(walFrames + records.reduce((sum, { pageCount }) => sum + pageCount, 0))
    expect(replica.image().equals(source.image)).toBe(true)
    replica.close()
  })

  test.each(['apply.write-index', 'apply.publish-copy2', 'apply.publish-copy1'])(
    'a disk that fails at %s: the applier stops, and opened anew it goes on from what recovery shows',
    (operation) => {
      const disk = failingDisk(operation)
      const replica = replicaAt({ disk })
      replica.applier.apply(source.records)
      const records = transfers(3)
      disk.isFailing = true
      expect(codeOf(() => replica.applier.apply(records.slice(0, 1))).code).toBe('STORAGE_FAILED')
      disk.isFailing = false
      expect(codeOf(() => replica.applier.apply(records.slice(0, 1))).code).toBe('DATABASE_STOPPED')
      expect(codeOf(() => replica.applier.checkpoint()).code).toBe('DATABASE_STOPPED')
      replica.close()

      const image = readPlainly(replica.path)
      const at = source.images.findIndex((known) => known.equals(image))
      expect([source.records.length - 3, source.records.length - 2]).toContain(at)
      const again = new TestReplica({ path: replica.path, pageSize: PAGE_SIZE, ...stateAt(at) })
      again.applier.apply(source.records.slice(at))
      expect(again.image().equals(source.image)).toBe(true)
      again.close()
    },
  )

  test('the wal-index is byte for byte what SQLite would recover from the WAL, over several blocks', () => {
    const small = new RecordSource(path.join(directory, 'small.db'), { pageSize: 512 })
    small.commit((database) => {
      database.exec('CREATE TABLE t (b)')
      const insert = database.prepare('INSERT INTO t VALUES (randomblob(400))')
      database.transaction(() => {
        for (let i = 0; i < 3000; i++) insert.run()
      })()
    })
    const replica = replicaAt({ pageSize: 512 })
    replica.applier.apply(small.records)
    for (const every of [1, 2, 1, 50, 1, 2, 300]) {
      const record = small.commit((database) =>
        database.exec(`UPDATE t SET b = randomblob(400) WHERE rowid % ${every} = 0`),
      )
      replica.applier.apply(record === undefined ? [] : [record])
    }
    const frames = replica.applier.walFrames
    expect(frames).toBeGreaterThan(3 * 4096)

    const copy = path.join(directory, 'copy.db')
    fs.writeFileSync(copy, readFd(replica.files.databaseFd))
    fs.writeFileSync(`${copy}-wal`, readFd(replica.files.walFd))
    const recovered = new SqliteDatabase(copy)
    recovered.prepare('SELECT count(*) FROM t').get()
    const expected = fs.readFileSync(`${copy}-shm`)
    recovered.close()
    const blocks = Math.ceil((frames + 34) / 4096) * WAL_INDEX_BLOCK_BYTES
    const ours = readFd(replica.files.shmFd)
    expect(ours.compare(expected, WAL_INDEX_PREFIX_BYTES, blocks, WAL_INDEX_PREFIX_BYTES, blocks)).toBe(0)
    // Whole memory pages of 64 KiB, so that SQLite can map them on every machine.
    expect(ours.length % 65536).toBe(0)
    small.close()
    replica.close()
  })
})

describe('close', () => {
  test('after it SQLite writes on in the same WAL, and an applier can take over again', () => {
    const replica = replicaAt()
    replica.applier.apply([...source.records, ...transfers(20)])
    replica.applier.close()
    const { walFrames, position } = replica.applier
    const writer = openConnection(replica.path)
    writer.exec("UPDATE account SET note = 'mine' WHERE id < 50")
    expect(writer.pragma('integrity_check', { simple: true })).toBe('ok')
    const image = writer.serialize()
    writer.close()
    const checksums = checksumsOf(image, PAGE_SIZE)
    const now = { txid: nextTxid(position.txid), checksum: checksums.checksum }
    const again = WalApplier.open({
      files: replica.files,
      checkpointer: replica.connection,
      checksums,
      position: now,
      pageSize: PAGE_SIZE,
      options: resolveApplyOptions(),
      clock: systemClock,
    })
    expect(again.walFrames).toBeGreaterThan(walFrames)
    again.applyPages(replacement(replica, source.image, source.position))
    expect(replica.image().equals(source.image)).toBe(true)
    again.close()
    replica.close()
  })

  test('a closed applier refuses to work', () => {
    const replica = replicaAt()
    replica.close()
    expect(() => replica.applier.apply(source.records)).toThrow('the write lock was given back')
  })
})

describe('open', () => {
  test('entries that a dead writer left above the last frame are cleared', () => {
    const replica = replicaAt()
    replica.applier.apply(source.records)
    const blockOf = (): Buffer => readFd(replica.files.shmFd).subarray(WAL_INDEX_PREFIX_BYTES, WAL_INDEX_BLOCK_BYTES)
    const clean = Buffer.from(blockOf())
    const remain = Buffer.alloc(4)
    const entry = replica.applier.walFrames
    remain.writeUInt32LE(77, 0)
    fs.writeSync(replica.files.shmFd, remain, 0, 4, WAL_INDEX_PREFIX_BYTES + entry * 4)
    remain.writeUInt16LE(entry + 1, 0)
    fs.writeSync(replica.files.shmFd, remain, 0, 2, 16384 + ((77 * 383) % 8192) * 2)
    expect(blockOf().equals(clean)).toBe(false)
    replica.reopenApplier()
    expect(blockOf().equals(clean)).toBe(true)
    replica.close()
  })

  test.each([{ version: 3007001 }, { bigEndianChecksum: true }])(
    'a wal-index that another SQLite made (%o) is refused',
    (change) => {
      const replica = replicaAt()
      replica.applier.apply(source.records)
      const header = readHeader(replica)!
      const write = (bytes: Buffer): void => {
        for (const at of [0, WAL_INDEX_HEADER_BYTES]) fs.writeSync(replica.files.shmFd, bytes, 0, bytes.length, at)
      }
      replica.applier.close()
      write(encodeWalIndexHeader({ ...header, ...change }))
      // A SQLite that knew such a wal-index would read it without complaint.
      const connection = { prepare: () => ({ get: () => undefined }) } as unknown as Connection
      expect(codeOf(() => ReplicaWriteLock.take(replica.files, connection)).code).toBe('UNSUPPORTED_PLATFORM')
      write(encodeWalIndexHeader(header))
      replica.reopenApplier()
      replica.applier.apply(transfers(1))
      expect(replica.image().equals(source.image)).toBe(true)
      replica.close()
    },
  )

  test('a WAL that is not the one of the wal-index is refused', () => {
    const replica = replicaAt()
    replica.applier.apply(source.records)
    const salt = Buffer.alloc(4, 9)
    fs.writeSync(replica.files.walFd, salt, 0, 4, 16)
    expect(codeOf(() => replica.reopenApplier()).code).toBe('CORRUPT_DATA')
    replica.close()
  })
})

describe('applyPages', () => {
  test('replaces what differs in one commit, growing and shrinking', () => {
    const replica = replicaAt()
    replica.applier.apply(source.records)
    for (const work of [60, 1]) {
      if (work > 1) transfers(work)
      else source.commit((database) => database.exec('DELETE FROM account WHERE id > 100; VACUUM'))
      const reader = new SqliteDatabase(replica.path, { readonly: true })
      reader.exec('BEGIN')
      const seen = reader.prepare('SELECT v FROM version').pluck()
      const version = seen.get()
      replica.applier.applyPages(replacement(replica, source.image, source.position))
      expect(seen.get()).toBe(version)
      reader.close()
      expect(replica.image().equals(source.image)).toBe(true)
      expect(replica.applier.position).toEqual(source.position)
    }
    replica.applier.apply(transfers(3))
    expect(replica.image().equals(source.image)).toBe(true)
    replica.close()
  })

  test('another history: the position is replaced whatever it was', () => {
    const replica = replicaAt()
    replica.applier.apply([...source.records, ...transfers(5)])
    const other = new RecordSource(path.join(directory, 'other.db'), { pageSize: PAGE_SIZE })
    other.commit(createBank)
    replica.applier.applyPages(replacement(replica, other.image, other.position))
    const next = other.commit((database) => transfer(database, 1))
    replica.applier.apply(next === undefined ? [] : [next])
    expect(replica.image().equals(other.image)).toBe(true)
    other.close()
    replica.close()
  })

  test('a differing page that is missing, or checksums that are not those of the position, or another file format: refused', () => {
    const replica = replicaAt()
    replica.applier.apply(source.records)
    const image = replica.image()
    transfers(4)
    const whole = replacement(replica, source.image, source.position)
    const missing = { ...whole, pgnos: whole.pgnos.filter((pgno) => pgno !== whole.pgnos[1]) }
    expect(codeOf(() => replica.applier.applyPages(missing)).code).toBe('CORRUPT_DATA')
    const elsewhere = { ...whole, position: { ...source.position, checksum: checksum((1n << 63n) | 7n) } }
    expect(codeOf(() => replica.applier.applyPages(elsewhere)).code).toBe('CORRUPT_DATA')
    const otherFormat = Buffer.from(source.image)
    otherFormat.fill(3, 18, 20)
    const unsupported = replacement(replica, otherFormat, { ...source.position, checksum: checksumOf(otherFormat) })
    expect(codeOf(() => replica.applier.applyPages(unsupported)).code).toBe('UNSUPPORTED_RECORD')
    expect(replica.image().equals(image)).toBe(true)
    replica.applier.applyPages(whole)
    expect(replica.image().equals(source.image)).toBe(true)
    replica.close()
  })

  test('pages of a primary in rollback-journal mode are written in WAL mode', () => {
    const replica = replicaAt()
    replica.applier.apply(source.records)
    transfers(4)
    const image = Buffer.from(source.image)
    image.fill(1, 18, 20)
    replica.applier.applyPages(replacement(replica, image, { ...source.position, checksum: checksumOf(image) }))
    expect(replica.image().equals(source.image)).toBe(true)
    expect(replica.applier.checksums.checksum).toBe(checksumOf(image))
    replica.close()
  })

  test('given up or failed half-way, it has not happened', () => {
    const replica = replicaAt()
    source.commit((database) => database.exec('CREATE TABLE big AS SELECT zeroblob(9000000) AS b'))
    replica.applier.apply(source.records.slice(0, 1))
    const image = replica.image()
    const pages = replacement(replica, source.image, source.position)
    const steps = replica.applier.applyPagesInSteps(pages)
    expect(steps.next().done).toBe(false)
    expect(() => replica.applier.apply(source.records.slice(1))).toThrow('a snapshot is being applied')
    steps.return()
    let count = 0
    const failing = replacement(replica, source.image, source.position)
    const read = (pgno: number, target: Buffer, offset: number): void => {
      if (++count === 1500) throw new Error('spool ended')
      failing.read(pgno, target, offset)
    }
    expect(() => replica.applier.applyPages({ ...failing, read })).toThrow('spool ended')
    expect(replica.image().equals(image)).toBe(true)
    replica.applier.apply(source.records.slice(1))
    expect(replica.image().equals(source.image)).toBe(true)
    replica.close()
  })
})

function replacement(replica: TestReplica, image: Buffer, position: Position) {
  return {
    pgnos: differingPages(replica.image(), image, PAGE_SIZE),
    read: (pgno: number, target: Buffer, offset: number) => {
      image.copy(target, offset, (pgno - 1) * PAGE_SIZE, pgno * PAGE_SIZE)
    },
    commit: image.length / PAGE_SIZE,
    checksums: checksumsOf(image, PAGE_SIZE),
    position,
  }
}

function checksumOf(image: Buffer): Checksum {
  return checksumsOf(image, PAGE_SIZE).checksum
}

function stateAt(index: number): { position: Position; checksums: PageChecksums } {
  const position = index === 0 ? ZERO_POSITION : source.records[index - 1]!.postApply
  return { position, checksums: checksumsOf(source.images[index]!, PAGE_SIZE) }
}

function recordOfOtherPageSize(): LtxRecord {
  const { txid, checksum: before } = source.position
  const builder = builderFor(nextTxid(txid), before, 1, 1, 8192)
  builder.addPage(1, Buffer.alloc(8192), 0)
  return builder.finish(checksum((1n << 63n) | 3n))
}

function failingDisk(operation: string): Disk & { isFailing: boolean } {
  const disk = {
    ...realDisk,
    isFailing: false,
    write(name: string, fd: number, bytes: Uint8Array, offset: number, length: number, position: number): void {
      if (name !== operation || !disk.isFailing) return realDisk.write(name, fd, bytes, offset, length, position)
      realDisk.write(name, fd, bytes, offset, length >> 1, position)
      throw new ClusterError('STORAGE_FAILED', `${name}: ENOSPC`)
    },
  }
  return disk
}

function readHeader(replica: TestReplica) {
  return parseWalIndexHeader(readFd(replica.files.shmFd).subarray(0, 96))
}

function readFd(fd: number): Buffer {
  const bytes = Buffer.alloc(fs.fstatSync(fd).size)
  fs.readSync(fd, bytes, 0, bytes.length, 0)
  return bytes
}

function readPlainly(file: string): Buffer {
  const database = new SqliteDatabase(file)
  const image = database.serialize()
  database.close()
  return image
}
