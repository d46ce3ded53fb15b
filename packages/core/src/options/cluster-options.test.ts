import { describe, expect, it } from 'vitest'
import { type ClusterOptions, requireReachable, resolveClusterOptions } from './cluster-options.ts'

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

  it('interop lets LiteFS nodes read, and move the office where that is said', () => {
    expect(resolve({ interop: true })).toMatchObject({ interop: true, interopHandoff: false })
    expect(resolve({ interop: {} })).toMatchObject({ interop: true, interopHandoff: false })
    expect(resolve({ interop: { handoff: true } })).toMatchObject({ interop: true, interopHandoff: true })
    for (const interop of ['yes', 1]) expect(() => resolve({ interop })).toThrow(/"interop"/)
    expect(() => resolve({ interop: { handof: true } })).toThrow(/interop: unknown option "handof"/)
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
      [{ listen: { grpcPort: 70_000 } }, /"listen.grpcPort"/],
      [{ node: { name: 'with space' } }, /"node.name"/],
      [{ log: { retentionMs: -1 } }, /log: .*retentionMs/],
      [{ ledger: { retentionMs: 5 } }, /ledger: .*retentionMs/],
      [{ ledger: { rows: 5 } }, /ledger: unknown option "rows"/],
      [{ voters: 'a' }, /"voters"/],
      [{ voters: ['a', 'a'] }, /"voters"/],
      [{ voters: ['a b'] }, /"voters\[0\]"/],
    ]
    for (const [more, message] of refused) expect(() => resolve(more), String(message)).toThrow(message)
    expect(() => resolve({ clusterKey: 'too-short' })).toThrow(/^(?![\s\S]*too-short)[\s\S]*clusterKey/)
  })

  it('takes name, region and address from the environment of a Fly machine, where nothing else is given', () => {
    const env = { FLY_MACHINE_ID: '148e', FLY_REGION: 'gru', FLY_PRIVATE_IP: 'fdaa::3' }
    const { node, advertise } = resolve({ listen: { host: '::' } }, env)
    expect(node).toEqual({ name: '148e', region: 'gru' })
    expect(advertise.host).toBe('fdaa::3')
    expect(resolve({}, env).advertise.host).toBe('127.0.0.1')
    expect(resolve({ node: { name: 'n', region: 'r' } }, env).node).toEqual({ name: 'n', region: 'r' })
    expect(resolve({}, { FLY_REGION: '' }).node.region).toBe('local')
  })

  it('asks how others reach a node that listens on every address', () => {
    const everywhere = { listen: { host: '0.0.0.0' } }
    expect(() => requireReachable(resolve(everywhere))).toThrow(/"0\.0\.0\.0" is no address/)
    expect(() => requireReachable(resolve({ ...everywhere, advertise: { grpc: 'a:1' } }))).toThrow(/advertise/)
    requireReachable(resolve({ ...everywhere, advertise: { grpc: 'a:1', http: 'http://a:2' } }))
    requireReachable(resolve(everywhere, { FLY_PRIVATE_IP: 'fdaa::3' }))
    requireReachable(resolve({}))
  })
})
