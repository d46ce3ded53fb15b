/**
 * A real LiteFS node: the daemon with a mount, a data directory and an HTTP listener of its own. Stopped by its process id, unmounted in any case.
 *
 * Its databases are used by the sqlite3 shell, in a process of its own: a process that waits for a file of the mount must not be the one that LiteFS waits
 * for.
 * Promises: after `close` no process, no mount and no file is left; started again it has its data, its address and its settings.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { type Position, parsePosition } from '@litefleet/core'
import { freePort } from './free-port.ts'
import { isBuilt, LITEFS } from './go-programs.ts'

/** Why no LiteFS node can run here; `undefined`: one can. */
export function whyNoLiteFs(): string | undefined {
  if (!isBuilt(LITEFS)) return 'litefs is not built (needs Go and a C compiler)'
  if (!existsSync('/dev/fuse')) return 'there is no /dev/fuse'
  if (!(process.env['PATH'] ?? '').split(path.delimiter).some((dir) => existsSync(path.join(dir, 'fusermount3'))))
    return 'the program fusermount3 is missing (Debian: apt-get install fuse3)'
  return process.getuid?.() === 0 ? undefined : 'only root may mount here'
}

export interface LiteFsOptions {
  /** Default: `litefs`. */
  readonly name?: string | undefined
  /** What stands under `lease` in its configuration; default: the primary for ever. */
  readonly lease?: Readonly<Record<string, unknown>> | undefined
  /** Further keys under `data`. */
  readonly data?: Readonly<Record<string, unknown>> | undefined
  /** Further keys of its configuration. */
  readonly config?: Readonly<Record<string, unknown>> | undefined
}

export interface LiteFsState {
  readonly isPrimary: boolean
  readonly hostname: string
}

const START_TIMEOUT_MS = 30_000
const STOP_TIMEOUT_MS = 5_000
const PRINTED_MAX = 100_000
const run = promisify(execFile)

export class LiteFsNode implements AsyncDisposable {
  readonly name: string
  readonly url: string
  readonly #options: LiteFsOptions
  readonly #port: number
  readonly #directory: string
  #child: ChildProcess | undefined
  #printed = ''

  private constructor(port: number, options: LiteFsOptions) {
    this.name = options.name ?? 'litefs'
    this.url = `http://127.0.0.1:${port}`
    this.#port = port
    this.#options = options
    this.#directory = mkdtempSync(path.join(tmpdir(), 'litefleet-litefs-'))
  }

  /** Starts it and waits until it serves. */
  static async start(options: LiteFsOptions = {}): Promise<LiteFsNode> {
    const node = new LiteFsNode(await freePort(), options)
    try {
      await node.start()
      return node
    } catch (error) {
      await node.close()
      throw error
    }
  }

  /** A replica of this URL for ever. */
  static replicaOf(url: string, options: LiteFsOptions = {}): Promise<LiteFsNode> {
    const lease = { type: 'static', hostname: 'primary', 'advertise-url': url, candidate: false }
    return LiteFsNode.start({ name: 'replica', ...options, lease })
  }

  /** A candidate in an election through this Consul. */
  static electedBy(consulUrl: string, key: string, options: LiteFsOptions = {}): Promise<LiteFsNode> {
    const lease = { type: 'consul', candidate: true, consul: { url: consulUrl, key, ttl: '10s', 'lock-delay': '1s' } }
    return LiteFsNode.start({ ...options, lease })
  }

  get mount(): string {
    return path.join(this.#directory, 'mount')
  }

  get dataDir(): string {
    return path.join(this.#directory, 'data')
  }

  /** Its `litefs.yml`, once it was started. */
  get configFile(): string {
    return path.join(this.#directory, 'litefs.yml')
  }

  /** What it said last. */
  get printed(): string {
    return this.#printed
  }

  /** Starts it, or starts it again. */
  async start(): Promise<void> {
    const { lease = { type: 'static', candidate: true }, data = {}, config = {} } = this.#options
    mkdirSync(this.mount, { recursive: true })
    const file = this.configFile
    const settings = {
      fuse: { dir: this.mount },
      http: { addr: `127.0.0.1:${this.#port}` },
      ...config,
      data: { dir: this.dataDir, ...data },
      lease: { hostname: this.name, 'advertise-url': this.url, ...lease },
    }
    writeFileSync(file, JSON.stringify(settings)) // which is YAML
    const child = spawn(LITEFS.file, ['mount', '-config', file], { stdio: ['ignore', 'pipe', 'pipe'] })
    this.#child = child
    let failure: Error | undefined
    child.on('error', (error) => (failure = error))
    for (const output of [child.stdout, child.stderr])
      output.on('data', (bytes: Buffer) => (this.#printed = (this.#printed + bytes.toString()).slice(-PRINTED_MAX)))
    const deadlineMs = performance.now() + START_TIMEOUT_MS
    // It serves before it has a primary, and says that it is connected when it has.
    while (!this.#printed.includes('waiting for signal or subprocess to exit')) {
      if (failure !== undefined) throw new Error('LiteFS could not be started: is it built?', { cause: failure })
      if (child.exitCode !== null || performance.now() > deadlineMs)
        throw new Error(`LiteFS does not serve:\n${this.#printed}`)
      await sleep(20)
    }
  }

  async state(): Promise<LiteFsState> {
    const response = await fetch(`${this.url}/info`)
    const { isPrimary, primary } = (await response.json()) as { isPrimary: boolean; primary: { hostname: string } }
    return { isPrimary, hostname: primary.hostname }
  }

  /** Answers the status and the text. */
  async post(route: string): Promise<{ readonly status: number; readonly text: string }> {
    const response = await fetch(`${this.url}${route}`, { method: 'POST' })
    return { status: response.status, text: await response.text() }
  }

  /** `undefined`: it does not know the database. */
  position(database: string): Position | undefined {
    try {
      return parsePosition(readFileSync(path.join(this.mount, `${database}-pos`), 'latin1').trim())
    } catch {
      return undefined
    }
  }

  /** Runs statements in the sqlite3 shell; answers what it prints. Rejects with its error. */
  async sql(database: string, text: string, timeoutMs = 20_000): Promise<string> {
    const file = path.join(this.mount, database)
    const { stdout } = await run('sqlite3', ['-bail', '-cmd', '.timeout 10000', file, text], { timeout: timeoutMs })
    return stdout.trim()
  }

  /** Deletes a database on the primary, as an application does. */
  drop(database: string): void {
    rmSync(path.join(this.mount, database))
  }

  /** SIGKILL, and what it leaves mounted is unmounted. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL')
  }

  /** SIGTERM; the lease is given back. */
  async stop(): Promise<void> {
    await this.#end('SIGTERM')
  }

  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    this.#child?.kill(signal)
  }

  async close(): Promise<void> {
    await this.kill()
    rmSync(this.#directory, { recursive: true, force: true })
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const child = this.#child
    this.#child = undefined
    if (child?.pid !== undefined && child.exitCode === null && child.signalCode === null) {
      const exit = once(child, 'exit')
      child.kill(signal)
      // While it starts it does not listen to SIGTERM, and a stopped one not at all.
      const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS)
      await exit
      clearTimeout(timer)
    }
    this.#printed = ''
    await run('fusermount3', ['-u', '-z', this.mount]).catch(() => undefined) // it mostly has unmounted itself
  }
}
