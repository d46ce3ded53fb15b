/**
 * Hosts with addresses of their own, as network namespaces on a bridge of their own, between which the network really loses packets.
 *
 *   namespace of host i: `eth0`, 10.77.0.(i + 1)/24 ── veth ── bridge `hub`, in a namespace that nothing else is in
 *
 * Packets from one host to another are lost in one direction by sending them to a MAC address that nobody has: neither side is told, as
 * with a pulled cable or a broken switch. That takes nothing but `ip` and needs no kernel module beyond veth and bridge.
 * Promises: nothing of the machine's own network is touched; after `close` nothing is left. Processes in the hosts must have ended before.
 */
import { execFileSync } from 'node:child_process'
import type { NodePlace } from './process-cluster.ts'

const NOWHERE = '02:00:00:00:ff:ff'

export class Namespaces implements Disposable {
  readonly #prefix: string
  readonly #hosts: readonly number[]

  private constructor(prefix: string, count: number) {
    this.#prefix = prefix
    this.#hosts = Array.from({ length: count }, (_, host) => host)
  }

  static create(count: number): Namespaces {
    const namespaces = new Namespaces(`lf${process.pid}`, count)
    try {
      namespaces.#build()
      return namespaces
    } catch (error) {
      namespaces.close()
      throw new Error(
        'making network namespaces needs root (CAP_NET_ADMIN, CAP_SYS_ADMIN) and the program ip (Debian: apt-get install iproute2)',
        { cause: error },
      )
    }
  }

  addressOf(host: number): string {
    return `10.77.0.${host + 1}`
  }

  /** Where the nodes of a cluster run: each on its own host. */
  get places(): readonly NodePlace[] {
    return this.#hosts.map((host) => ({
      host: this.addressOf(host),
      launcher: ['ip', 'netns', 'exec', this.#name(host)],
    }))
  }

  /** Packets of `from` no longer reach `to`. */
  lose(from: number, to: number): void {
    this.#neighbour(from, to, NOWHERE)
  }

  /** What this host sends reaches nobody. */
  loseFrom(host: number): void {
    for (const other of this.#hosts) if (other !== host) this.lose(host, other)
  }

  /** Nothing reaches this host. */
  loseTo(host: number): void {
    for (const other of this.#hosts) if (other !== host) this.lose(other, host)
  }

  isolate(host: number): void {
    this.loseFrom(host)
    this.loseTo(host)
  }

  heal(): void {
    for (const from of this.#hosts) for (const to of this.#hosts) if (from !== to) this.#neighbour(from, to, macOf(to))
  }

  close(): void {
    for (const name of [...this.#hosts.map((host) => this.#name(host)), this.#hub]) {
      try {
        ip('netns', 'del', name)
      } catch {
        // It was not made.
      }
    }
  }

  [Symbol.dispose](): void {
    this.close()
  }

  get #hub(): string {
    return `${this.#prefix}-hub`
  }

  #name(host: number): string {
    return `${this.#prefix}-${host}`
  }

  #build(): void {
    const hub = this.#hub
    ip('netns', 'add', hub)
    ip('-n', hub, 'link', 'add', 'hub', 'type', 'bridge')
    ip('-n', hub, 'link', 'set', 'hub', 'up')
    for (const host of this.#hosts) {
      const name = this.#name(host)
      ip('netns', 'add', name)
      const inHost = ['name', 'eth0', 'address', macOf(host)]
      ip('-n', hub, 'link', 'add', `port${host}`, 'type', 'veth', 'peer', ...inHost, 'netns', name)
      ip('-n', hub, 'link', 'set', `port${host}`, 'master', 'hub', 'up')
      ip('-n', name, 'addr', 'add', `${this.addressOf(host)}/24`, 'dev', 'eth0')
      ip('-n', name, 'link', 'set', 'lo', 'up')
      ip('-n', name, 'link', 'set', 'eth0', 'up')
    }
    this.heal()
  }

  #neighbour(from: number, to: number, mac: string): void {
    ip('-n', this.#name(from), 'neigh', 'replace', this.addressOf(to), 'lladdr', mac, 'dev', 'eth0', 'nud', 'permanent')
  }
}

function macOf(host: number): string {
  return `02:00:00:00:00:${(host + 1).toString(16).padStart(2, '0')}`
}

function ip(...args: readonly string[]): void {
  execFileSync('ip', args, { stdio: 'pipe' })
}
