import { describe, expect, it } from 'vitest'
import { type ClusterOptions, resolveClusterOptions } from './cluster-options.ts'

const GIVEN: ClusterOptions = { dataDir: 'data', lease: { kind: 'static', primary: true } }
const resolve = (more: object, env: NodeJS.ProcessEnv = {}) => resolveClusterOptions({ ...GIVEN, ...more }, env)

describe('resolveClusterOptions', () => {
  it('applies defaults: loopback, any port, no key', () => {
    const { listen, clusterKeys, interop, node } = resolve({})
    expect(listen).toEqual({ host: '127.0.0.1', grpcPort: 0, httpPort: 0 })
    expect(clusterKeys).toEqual([])
    expect(interop).toBe(false)
    expect(node.region).toBe('local')
  })

  it('takes the cluster key from the environment, two while it is rotated', () => {
    const env = { LITEFLEET_CLUSTER_KEY: 'new-key-new-key-new,old-key-old-key-old' }
    expect(resolve({}, env).clusterKeys).toEqual(['new-key-new-key-new', 'old-key-old-key-old'])
    expect(resolve({ clusterKey: 'given-key-given-key' }, env).clusterKeys).toEqual(['given-key-given-key'])
  })

  it('refuses what it does not know or cannot use, by name, and never tells the key', () => {
    const refused: [object, RegExp][] = [
      [{ regoin: 'x' }, /unknown option "regoin"/],
      [{ listen: { prot: 1 } }, /listen: unknown option "prot"/],
      [{ dataDir: '' }, /"dataDir"/],
      [{ lease: undefined }, /"lease"/],
      [{ lease: { kind: 'static', primary: { url: 'host:1' } } }, /"lease.primary"/],
      [{ listen: { grpcPort: 70_000 } }, /"listen.grpcPort"/],
      [{ node: { name: 'with space' } }, /"node.name"/],
      [{ log: { retentionMs: -1 } }, /log: .*retentionMs/],
      [{ ledger: { retentionMs: 5 } }, /ledger: .*retentionMs/],
      [{ ledger: { rows: 5 } }, /ledger: unknown option "rows"/],
    ]
    for (const [more, message] of refused) expect(() => resolve(more), String(message)).toThrow(message)
    expect(() => resolve({ clusterKey: 'too-short' })).toThrow(/^(?![\s\S]*too-short)[\s\S]*clusterKey/)
  })

  it('drops the slash at the end of the primary url', () => {
    const { lease } = resolve({ lease: { kind: 'static', primary: { url: 'http://10.0.0.1:4200/' } } })
    expect(lease.primary).toEqual({ url: 'http://10.0.0.1:4200' })
  })
})
