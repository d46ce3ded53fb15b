import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { DataDirectory } from '../files/data-directory.ts'
import { realDisk } from '../files/disk.ts'
import { NO_CHECKSUM } from '../position/checksum.ts'
import { epoch, NO_EPOCH } from '../position/epoch.ts'
import { txid } from '../position/txid.ts'
import { ClusterIdentity } from './cluster-identity.ts'

let directory: string
let data: DataDirectory
beforeEach(() => {
  directory = mkdtempSync(path.join(os.tmpdir(), 'litefleet-identity-'))
  data = DataDirectory.open(realDisk, directory)
})
afterEach(() => {
  data.close()
  rmSync(directory, { recursive: true })
})

const open = (): ClusterIdentity => new ClusterIdentity(realDisk, data, 'main')

it('a cluster is founded once and joined once', () => {
  const identity = open()
  expect(identity.clusterId).toBeUndefined()
  identity.found()
  expect(identity.clusterId).toMatch(/^LFSC[0-9A-F]{16}$/)
  const again = open()
  again.found()
  expect(again.clusterId).toBe(identity.clusterId)
  expect(() => again.adopt('LFSC0000000000000000')).toThrow(/CLUSTER_MISMATCH/)
})

it('epochs only grow, over restarts and beyond those of others', () => {
  const first = open()
  expect(first.newestEpoch).toBe(NO_EPOCH)
  expect(first.nextEpoch(NO_EPOCH)).toBe(1)
  expect(first.nextEpoch(epoch(5))).toBe(6)
  first.seen([{ epoch: epoch(9), firstTxid: txid(1n), checksumBefore: NO_CHECKSUM }])
  first.seen([{ epoch: epoch(2), firstTxid: txid(1n), checksumBefore: NO_CHECKSUM }])
  expect(open().nextEpoch(NO_EPOCH)).toBe(10)
})

it('a damaged epoch file is an error, not epoch 0', () => {
  open().nextEpoch(NO_EPOCH)
  writeFileSync(data.epochFile('main'), 'gone')
  expect(open).toThrow(/CORRUPT_DATA/)
})
