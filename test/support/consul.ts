/**
 * A real Consul of one server, on loopback, with a data directory of its own; stopped by its process id.
 *
 * Promises: after `close` no process and no file is left; started again it has its ports and its data.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { CONSUL } from './go-programs.ts'
import { freePort } from './free-port.ts'

const START_TIMEOUT_MS = 60_000
const PRINTED_MAX = 100_000

export interface ConsulOptions {
  /** Token of the administrator: with one, nobody may do anything without a token. */
  readonly rootToken?: string | undefined
}

/** A key as Consul tells of it. */
export interface ConsulKey {
  readonly text: string
  readonly Session?: string
  readonly ModifyIndex: number
}

export class ConsulServer implements AsyncDisposable {
  readonly port: number
  readonly #ports: Readonly<Record<string, number>>
  readonly #directory: string
  readonly #rootToken: string | undefined
  #child: ChildProcess | undefined
  #printed = ''

  private constructor(ports: Readonly<Record<string, number>>, rootToken: string | undefined) {
    this.port = ports['http']!
    this.#ports = ports
    this.#rootToken = rootToken
    this.#directory = mkdtempSync(path.join(tmpdir(), 'litefleet-consul-'))
  }

  static async start({ rootToken }: ConsulOptions = {}): Promise<ConsulServer> {
    const none = { dns: -1, grpc: -1, grpc_tls: -1, serf_wan: -1 }
    const ports = { ...none, http: await freePort(), serf_lan: await freePort(), server: await freePort() }
    const server = new ConsulServer(ports, rootToken)
    try {
      await server.start()
      return server
    } catch (error) {
      await server.close()
      throw error
    }
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`
  }

  /** Starts it, or starts it again, and waits until it serves. */
  async start(): Promise<void> {
    const config = path.join(this.#directory, 'config.json')
    const acl = { enabled: true, default_policy: 'deny', tokens: { initial_management: this.#rootToken } }
    const settings = {
      server: true,
      bootstrap_expect: 1,
      node_name: 'test',
      bind_addr: '127.0.0.1',
      client_addr: '127.0.0.1',
      data_dir: path.join(this.#directory, 'data'),
      ports: this.#ports,
      performance: { raft_multiplier: 1 },
      disable_update_check: true,
      connect: { enabled: false },
      peering: { enabled: false },
      ...(this.#rootToken === undefined ? {} : { acl }),
    }
    writeFileSync(config, JSON.stringify(settings))
    const child = spawn(CONSUL.file, ['agent', '-config-file', config, '-log-level', 'warn'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.#child = child
    let failure: Error | undefined
    child.on('error', (error) => (failure = error))
    for (const output of [child.stdout, child.stderr])
      output.on('data', (bytes: Buffer) => (this.#printed = (this.#printed + bytes.toString()).slice(-PRINTED_MAX)))
    const deadlineMs = performance.now() + START_TIMEOUT_MS
    while (!(await this.#serves())) {
      if (failure !== undefined) throw new Error('Consul could not be started: is it built?', { cause: failure })
      if (child.exitCode !== null || performance.now() > deadlineMs)
        throw new Error(`Consul does not serve:\n${this.#printed}`)
      await sleep(50)
    }
  }

  /** SIGKILL. */
  async kill(): Promise<void> {
    const child = this.#child
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
    const exit = once(child, 'exit')
    child.kill('SIGKILL')
    await exit
  }

  async get(key: string): Promise<ConsulKey | undefined> {
    const response = await this.#fetch('GET', `kv/${key}`)
    if (response.status === 404) return undefined
    const [found] = (await response.json()) as [{ Value: string | null; Session?: string; ModifyIndex: number }]
    return { ...found, text: Buffer.from(found.Value ?? '', 'base64').toString() }
  }

  async put(key: string, value: string): Promise<void> {
    await this.ask('PUT', `kv/${key}`, value)
  }

  async delete(key: string): Promise<void> {
    await this.ask('DELETE', `kv/${key}`)
  }

  async sessions(): Promise<readonly Record<string, unknown>[]> {
    return (await this.ask('GET', 'session/list')) as readonly Record<string, unknown>[]
  }

  /** Ends every session, as if its time were over. */
  async destroySessions(): Promise<void> {
    for (const { ID } of await this.sessions()) await this.ask('PUT', `session/destroy/${String(ID)}`)
  }

  async ask(method: string, path: string, body?: string): Promise<unknown> {
    const response = await this.#fetch(method, path, body)
    const text = await response.text()
    if (!response.ok) throw new Error(`Consul: ${method} ${path}: ${response.status} ${text}`)
    return JSON.parse(text)
  }

  async close(): Promise<void> {
    await this.kill()
    rmSync(this.#directory, { recursive: true, force: true })
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #fetch(method: string, path: string, body?: string): Promise<Response> {
    const headers = this.#rootToken === undefined ? {} : { 'x-consul-token': this.#rootToken }
    return fetch(`${this.url}/v1/${path}`, { method, headers, ...(body === undefined ? {} : { body }) })
  }

  /** There is a leader, and this node is in the catalog, without which sessions are refused. */
  async #serves(): Promise<boolean> {
    try {
      const nodes = (await this.ask('GET', 'catalog/nodes?consistent')) as readonly { Node: string }[]
      return nodes.some(({ Node }) => Node === 'test')
    } catch {
      return false
    }
  }
}
