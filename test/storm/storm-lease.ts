/**
 * What decides who is the primary of a storm: the storm itself (static), or an election with the lease of this kind, whose backend each node
 * reaches by a way of its own that can be cut.
 */
import path from 'node:path'
import type { ClusterOptions } from '@litefleet/core'
import { ConsulServer } from '../support/consul.ts'
import { EtcdServer } from '../support/etcd.ts'
import { Wire } from '../support/link.ts'

export const LEASE_KINDS = ['static', 'host', 'etcd', 'consul'] as const
export type LeaseKind = (typeof LEASE_KINDS)[number]

const ETCD_TTL_MS = 2_000
const CONSUL_TTL_MS = 10_000

export class StormLease implements AsyncDisposable {
  readonly kind: Exclude<LeaseKind, 'static'>
  readonly options: ClusterOptions['lease']
  /** How long it takes at the longest until a holder that stands still is replaced; 0: it is not. */
  readonly expiryMs: number
  readonly #backend: { readonly port: number; close(): Promise<void> } | undefined
  readonly #wires = new Map<number, Wire>()

  private constructor(
    kind: Exclude<LeaseKind, 'static'>,
    options: ClusterOptions['lease'],
    expiryMs: number,
    backend: { readonly port: number; close(): Promise<void> } | undefined,
  ) {
    this.kind = kind
    this.options = options
    this.expiryMs = expiryMs
    this.#backend = backend
  }

  /** `undefined`: nobody is elected. */
  static async start(kind: LeaseKind, directory: string): Promise<StormLease | undefined> {
    switch (kind) {
      case 'static':
        return undefined
      case 'host':
        return new StormLease(kind, { kind, directory: path.join(directory, 'lease') }, 0, undefined)
      case 'etcd': {
        const etcd = await EtcdServer.start()
        return new StormLease(kind, { kind, endpoints: [etcd.url], ttlMs: ETCD_TTL_MS }, ETCD_TTL_MS + 1_000, etcd)
      }
      default: {
        const consul = await ConsulServer.start()
        const options = { kind, url: consul.url, key: 'storm', ttlMs: CONSUL_TTL_MS, lockDelayMs: 0 } as const
        return new StormLease(kind, options, 2 * CONSUL_TTL_MS + 1_000, consul)
      }
    }
  }

  /** The way of a node to the backend; `undefined` where there is none. */
  async wire(index: number): Promise<Wire | undefined> {
    if (this.#backend === undefined) return undefined
    const known = this.#wires.get(index)
    if (known !== undefined) return known
    const wire = await Wire.open({ host: '127.0.0.1', port: this.#backend.port })
    this.#wires.set(index, wire)
    return wire
  }

  async routesOf(index: number): Promise<Readonly<Record<string, string>>> {
    const wire = await this.wire(index)
    return wire === undefined ? {} : { [`127.0.0.1:${this.#backend?.port}`]: wire.address }
  }

  heal(): void {
    for (const wire of this.#wires.values()) wire.heal()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#wires.values()].map((wire) => wire.close()))
    await this.#backend?.close()
  }
}
