/**
 * A real etcd of one member, on loopback, with a data directory of its own; stopped by its process id.
 *
 * Promises: after `close` no process and no file is left; started again it has its ports and its data. Its elections are short, so it serves
 * some 100 ms after its start.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from './free-port.ts'

const START_TIMEOUT_MS = 30_000
const HEARTBEAT_MS = 20
const ELECTION_MS = 200
const PRINTED_MAX = 100_000
/** The administrator, once somebody is asked for. */
const ROOT = { name: 'root', password: 'of-the-test' }

export interface EtcdOptions {
  /** Speaks TLS, with a certificate that it makes and signs itself. */
  readonly tls?: boolean | undefined
}

export class EtcdServer implements AsyncDisposable {
  readonly port: number
  readonly #peerPort: number
  readonly #directory: string
  readonly #isTls: boolean
  #child: ChildProcess | undefined
  #printed = ''
  #isGuarded = false

  private constructor(port: number, peerPort: number, isTls: boolean) {
    this.port = port
    this.#peerPort = peerPort
    this.#isTls = isTls
    this.#directory = mkdtempSync(path.join(tmpdir(), 'litefleet-etcd-'))
  }

  static async start({ tls = false }: EtcdOptions = {}): Promise<EtcdServer> {
    const server = new EtcdServer(await freePort(), await freePort(), tls)
    try {
      await server.start()
      return server
    } catch (error) {
      await server.close()
      throw error
    }
  }

  get url(): string {
    return `${this.#isTls ? 'https' : 'http'}://127.0.0.1:${this.port}`
  }

  /** With `tls`: the certificate, which is its own authority. */
  get caFile(): string {
    return path.join(this.#directory, 'fixtures/client/cert.pem')
  }

  get ca(): Buffer {
    return readFileSync(this.caFile)
  }

  /** Starts it, or starts it again, and waits until it serves. */
  async start(): Promise<void> {
    const peers = `http://127.0.0.1:${this.#peerPort}`
    const child = spawn(
      'etcd',
      [
        ['--name', 'test'],
        ['--data-dir', this.#directory],
        ['--listen-client-urls', this.url],
        ['--advertise-client-urls', this.url],
        ['--listen-peer-urls', peers],
        ['--initial-advertise-peer-urls', peers],
        ['--initial-cluster', `test=${peers}`],
        ['--heartbeat-interval', String(HEARTBEAT_MS)],
        ['--election-timeout', String(ELECTION_MS)],
        this.#isTls ? ['--auto-tls'] : [],
      ].flat(),
      // Debian's etcd asks for this on machines that its makers do not test on.
      { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ETCD_UNSUPPORTED_ARCH: process.arch } },
    )
    this.#child = child
    let failure: Error | undefined
    child.on('error', (error) => (failure = error))
    for (const output of [child.stdout, child.stderr])
      output.on('data', (bytes: Buffer) => (this.#printed = (this.#printed + bytes.toString()).slice(-PRINTED_MAX)))
    const deadlineMs = performance.now() + START_TIMEOUT_MS
    while (!(await this.#serves())) {
      if (failure !== undefined) throw new Error('etcd could not be started: install etcd-server', { cause: failure })
      if (child.exitCode !== null || performance.now() > deadlineMs)
        throw new Error(`etcd does not serve:\n${this.#printed}`)
      await sleep(10)
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

  /** SIGSTOP: it stands still until `resume`. */
  pause(): void {
    this.#child?.kill('SIGSTOP')
  }

  resume(): void {
    this.#child?.kill('SIGCONT')
  }

  /** Ends every lease, as if its time were over. */
  async revokeLeases(): Promise<void> {
    for (const { ID } of await this.leases()) await this.ask('lease/revoke', { ID })
  }

  async leases(): Promise<readonly { readonly ID: string }[]> {
    return ((await this.ask('lease/leases', {})) as { leases?: readonly { ID: string }[] }).leases ?? []
  }

  /** `undefined`: there is no such key. */
  async read(key: string): Promise<string | undefined> {
    const { kvs } = (await this.ask('kv/range', { key: encoded(key) })) as { kvs?: readonly { value: string }[] }
    return kvs?.[0] === undefined ? undefined : Buffer.from(kvs[0].value, 'base64').toString()
  }

  async delete(key: string): Promise<void> {
    await this.ask('kv/deleterange', { key: encoded(key) })
  }

  async put(key: string, value: string): Promise<void> {
    await this.ask('kv/put', { key: encoded(key), value: encoded(value) })
  }

  /** From now on a name and a password are asked for. The user may read and write what begins with `prefix`. */
  async enableAuth(user: string, password: string, prefix: string): Promise<void> {
    await this.ask('auth/user/add', ROOT)
    await this.ask('auth/user/add', { name: user, password })
    await this.ask('auth/role/add', { name: 'lease' })
    const last = `${prefix.slice(0, -1)}${String.fromCodePoint(prefix.codePointAt(prefix.length - 1)! + 1)}`
    const perm = { permType: 'READWRITE', key: encoded(prefix), range_end: encoded(last) }
    await this.ask('auth/role/grant', { name: 'lease', perm })
    await this.ask('auth/role/add', { name: 'root' })
    await this.ask('auth/user/grant', { user: 'root', role: 'root' })
    await this.ask('auth/user/grant', { user, role: 'lease' })
    await this.ask('auth/enable', {})
    this.#isGuarded = true
  }

  /** By etcd's JSON door, which is none of the client's code. */
  async ask(method: string, body: object): Promise<unknown> {
    if (!this.#isGuarded) return this.#post(method, body, {})
    // A token counts until the next change of users or roles.
    const { token } = (await this.#post('auth/authenticate', ROOT, {})) as { token: string }
    return this.#post(method, body, { authorization: token })
  }

  async close(): Promise<void> {
    await this.kill()
    rmSync(this.#directory, { recursive: true, force: true })
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #post(method: string, body: object, headers: Record<string, string>): Promise<unknown> {
    const response = await fetch(`${this.url}/v3/${method}`, { method: 'POST', body: JSON.stringify(body), headers })
    if (!response.ok) throw new Error(`etcd: ${method}: ${response.status} ${await response.text()}`)
    return response.json()
  }

  async #serves(): Promise<boolean> {
    // Of its certificate only its owner knows that it is right; that it listens is enough here.
    if (this.#isTls) return this.#printed.includes('serving client requests on')
    try {
      const response = await fetch(`${this.url}/health`, { signal: AbortSignal.timeout(1_000) })
      return response.ok && ((await response.json()) as { health: string }).health === 'true'
    } catch {
      return false
    }
  }
}

function encoded(text: string): string {
  return Buffer.from(text).toString('base64')
}
