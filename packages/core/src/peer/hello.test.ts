import { describe, expect, it } from 'vitest'
import { checksum } from '../position/checksum.ts'
import { epoch } from '../position/epoch.ts'
import { txid } from '../position/txid.ts'
import { admitAnswerer, admitDialler, type Hello } from './hello.ts'
import { PROTOCOL_VERSION } from './protocol.ts'
import { decodeHello, decodeRole, encodeHello, encodeRole } from './wire-messages.ts'

const hello = (more: Partial<Hello> = {}): Hello => ({
  protocolVersion: PROTOCOL_VERSION,
  clusterId: 'LFSC0000000000000001',
  nodeName: 'a',
  nodeId: '0123456789abcdef',
  region: 'gru',
  grpcAddress: '127.0.0.1:1',
  httpUrl: 'http://127.0.0.1:2',
  role: 'handing-off',
  isCandidate: true,
  databases: [
    {
      database: 'app.db',
      epochs: [
        { epoch: epoch(2 ** 53 - 1), firstTxid: txid(2n ** 64n - 1n), checksumBefore: checksum(2n ** 64n - 1n) },
      ],
    },
  ],
  tokenAnswer: 'x',
  ...more,
})
const code = (expected: string) => expect.objectContaining({ code: expected })

describe('hello', () => {
  it('survives the wire with epochs, TXIDs and checksums of full size', () => {
    expect(decodeHello(encodeHello(hello()))).toEqual(hello())
    for (const role of ['detached', 'replica', 'candidate', 'primary', 'handing-off', 'closed'] as const) {
      expect(decodeRole(encodeRole(role))).toBe(role)
    }
    expect(decodeRole('NODE_ROLE_OF_A_LATER_VERSION')).toBe('detached')
  })

  it.each([admitDialler, admitAnswerer])('of another cluster or protocol is refused by name: %o', (admit) => {
    expect(() => admit(hello(), hello())).not.toThrow()
    expect(() => admit(hello({ clusterId: 'LFSC0000000000000002' }), hello())).toThrow(code('CLUSTER_MISMATCH'))
    expect(() => admit(hello({ protocolVersion: PROTOCOL_VERSION + 1 }), hello())).toThrow(code('PROTOCOL_MISMATCH'))
    expect(() => admit(hello({ protocolVersion: PROTOCOL_VERSION - 1 }), hello())).toThrow(code('PROTOCOL_MISMATCH'))
  })

  it('of a node without a cluster is accepted from the dialler only', () => {
    expect(() => admitDialler(hello({ clusterId: '' }), hello())).not.toThrow()
    expect(() => admitDialler(hello(), hello({ clusterId: '' }))).toThrow(code('CLUSTER_MISMATCH'))
    expect(() => admitDialler(hello({ clusterId: '' }), hello({ clusterId: '' }))).toThrow(code('CLUSTER_MISMATCH'))
    expect(() => admitAnswerer(hello(), hello({ clusterId: '' }))).not.toThrow()
    expect(() => admitAnswerer(hello({ clusterId: '' }), hello())).toThrow(code('CLUSTER_MISMATCH'))
  })

  it('with a malformed position or epoch is refused', () => {
    const wire = encodeHello(hello())
    const epochs = [{ epoch: '0', firstTxid: '1', checksumBefore: '5' }]
    expect(() => decodeHello({ ...wire, databases: [{ database: 'x', epochs }] })).toThrow(code('INVALID_REQUEST'))
  })
})
