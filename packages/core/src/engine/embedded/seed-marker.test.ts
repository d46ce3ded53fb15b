import { expect, it } from 'vitest'
import { PowerCutDisk } from '../../log/test-support/power-cut-disk.ts'
import { checksum, NO_CHECKSUM } from '../../position/checksum.ts'
import { epoch } from '../../position/epoch.ts'
import { txid } from '../../position/txid.ts'
import { SeedMarker } from './seed-marker.ts'

const sum = checksum((1n << 63n) | 5n)
const seed = {
  position: { txid: txid(9n), checksum: sum },
  epoch: epoch(1_700_000_000_000),
  epochs: [
    { epoch: epoch(3), firstTxid: txid(1n), checksumBefore: NO_CHECKSUM },
    { epoch: epoch(1_700_000_000_000), firstTxid: txid(7n), checksumBefore: sum },
  ],
}

it('a marker tells position and epochs of the primary until it is forgotten', () => {
  const marker = new SeedMarker(new PowerCutDisk(), '/db')
  expect(marker.read()).toBeUndefined()
  marker.note(seed)
  expect(marker.read()).toEqual(seed)
  marker.note({ ...seed, epochs: [] })
  expect(marker.read()).toEqual({ ...seed, epochs: [] })
  marker.forget()
  expect(marker.read()).toBeUndefined()
})

it('a damaged marker is none', () => {
  const disk = new PowerCutDisk()
  const marker = new SeedMarker(disk, '/db')
  marker.note(seed)
  const whole = disk.readWhole('test', '/db/seeding') ?? Buffer.alloc(0)
  for (const length of [0, 20, 40, 60, whole.length - 1]) {
    disk.replaceDurably('test', '/db/seeding', whole.subarray(0, length))
    expect(marker.read(), `${length} bytes`).toBeUndefined()
  }
})
