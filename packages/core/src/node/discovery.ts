/**
 * Where other nodes may be, before anybody told: addresses from the configuration, and those that names of the DNS stand for.
 *
 * Relies on: who is found is checked when it is dialled; an address may be this node's own, or nobody's.
 * Promises: names are looked up again every `everyMs`; what was known stays while the DNS does not answer, and what it answers replaces it, nothing
 * included. Bound: `ADDRESSES_MAX` for each name.
 */
import { lookup } from 'node:dns/promises'
import type { Clock } from '../base/clock.ts'
import { RunLoop } from '../base/run-loop.ts'
import type { PeerSource } from '../options/peer-source.ts'

export interface DiscoveryParts {
  readonly sources: readonly PeerSource[]
  readonly clock: Clock
  random(): number
  /** Default: 5,000. */
  readonly everyMs?: number | undefined
  /** A (IPv4) and AAAA (IPv6) addresses of a name, in no order. Default: as the machine resolves names. */
  resolve?(name: string): Promise<readonly string[]>
  /** A name that cannot be looked up. */
  onFailure(error: unknown, name: string): void
}

const EVERY_MS = 5_000
const ADDRESSES_MAX = 64
/** `getaddrinfo` knows nothing of it: nobody is there (yet). */
const NOBODY: ReadonlySet<unknown> = new Set(['ENOTFOUND', 'ENODATA', 'EAI_AGAIN'])

export class Discovery {
  readonly #parts: DiscoveryParts
  readonly #fixed: readonly string[]
  readonly #found = new Map<string, readonly string[]>()
  readonly #loops: readonly RunLoop[]

  constructor(parts: DiscoveryParts) {
    this.#parts = parts
    const { sources, clock, everyMs = EVERY_MS } = parts
    this.#fixed = sources.flatMap((source) => (source.kind === 'address' ? [source.address] : []))
    const names = sources.flatMap((source) => (source.kind === 'dns' ? [source] : []))
    this.#loops = names.map(
      ({ name, port }) =>
        new RunLoop({
          clock,
          minDelayMs: everyMs,
          maxDelayMs: everyMs,
          random: () => parts.random(),
          task: () => this.#look(name, port),
          onFailure: (error) => parts.onFailure(error, name),
        }),
    )
  }

  /** `host:port`, each once. */
  get addresses(): readonly string[] {
    return [...new Set([...this.#fixed, ...[...this.#found.values()].flat()])]
  }

  start(): void {
    for (const loop of this.#loops) loop.start()
  }

  async close(): Promise<void> {
    await Promise.all(this.#loops.map((loop) => loop.stop()))
  }

  async #look(name: string, port: number): Promise<void> {
    const { resolve = resolveByMachine } = this.#parts
    const found = await resolve(name)
    const addresses = found
      .slice(0, ADDRESSES_MAX)
      .map((host) => (host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`))
    this.#found.set(`${name}:${port}`, addresses)
  }
}

async function resolveByMachine(name: string): Promise<readonly string[]> {
  try {
    return (await lookup(name, { all: true })).map(({ address }) => address)
  } catch (error) {
    if (NOBODY.has((error as { code?: unknown }).code)) return []
    throw error
  }
}
