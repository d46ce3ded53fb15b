/**
 * `litefleet litefs`: the daemon as a watched child, and LiteFS's other commands passed on.
 *
 * Real: LiteFS 0.5.14 with its mount, our command line, SIGKILL and SIGTERM.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { shell } from '../support/foreign-shell.ts'
import { freePort } from '../support/free-port.ts'
import { LITEFS } from '../support/go-programs.ts'
import { integrityOf } from '../support/images.ts'
import { whyNoLiteFs } from '../support/litefs.ts'

const BIN = path.resolve(import.meta.dirname, '../../packages/cli/src/bin.ts')
const POLL = { timeout: 30_000, interval: 50 }

describe.skipIf(whyNoLiteFs() !== undefined)('with a real LiteFS', () => {
  let directory: string
  let config: string
  let url: string
  let child: ChildProcess | undefined
  let printed = ''

  beforeEach(async () => {
    directory = mkdtempSync(path.join(tmpdir(), 'litefleet-watched-'))
    mkdirSync(mountDir())
    config = path.join(directory, 'litefs.yml')
    const addr = `127.0.0.1:${await freePort()}`
    url = `http://${addr}`
    const lease = { type: 'static', hostname: 'here', 'advertise-url': url, candidate: true }
    writeFileSync(
      config,
      JSON.stringify({ fuse: { dir: mountDir() }, data: { dir: path.join(directory, 'data') }, http: { addr }, lease }),
    )
  })
  afterEach(async () => {
    if (child !== undefined && child.exitCode === null) {
      const exit = once(child, 'exit')
      child.kill('SIGTERM')
      await exit
    }
    child = undefined
    rmSync(directory, { recursive: true })
  })

  function mountDir(): string {
    return path.join(directory, 'mount')
  }

  function start(...args: readonly string[]): ChildProcess {
    const env = { ...process.env, LITEFLEET_LITEFS_BIN: LITEFS.file }
    const started = spawn(process.execPath, [BIN, 'litefs', ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] })
    printed = ''
    for (const output of [started.stdout, started.stderr])
      output.on('data', (bytes: Buffer) => (printed += bytes.toString()))
    child = started
    return started
  }

  /** The daemon that was started last, by what the kernel says. */
  function daemon(parent: number): number {
    return Number(readFileSync(`/proc/${parent}/task/${parent}/children`, 'utf8').trim().split(' ').at(-1))
  }

  const isMounted = (): boolean => readFileSync('/proc/self/mounts', 'utf8').includes(mountDir())

  test('a daemon that is killed is started again over a clean mount, and ends with SIGTERM', async () => {
    const started = start('mount', '--config', config)
    await expect.poll(() => printed, POLL).toContain(`litefs is ready: ${url}`)
    await shell(path.join(mountDir(), 'app.db'), "CREATE TABLE note (text); INSERT INTO note VALUES ('kept')")
    process.kill(daemon(started.pid!), 'SIGKILL')
    await expect.poll(() => printed, POLL).toMatch(/was unmounted[^]*started again in 500 ms[^]*litefs is ready/)
    expect(await shell(path.join(mountDir(), 'app.db'), 'SELECT text FROM note')).toBe('kept')
    const exit = once(started, 'exit')
    started.kill('SIGTERM')
    expect(await exit).toEqual([0, null])
    expect(isMounted()).toBe(false)
  })

  test('with --restart never it ends as its daemon did, and leaves nothing mounted', async () => {
    const started = start('mount', '--config', config, '--restart', 'never')
    await expect.poll(() => printed, POLL).toContain('litefs is ready')
    const exit = once(started, 'exit')
    process.kill(daemon(started.pid!), 'SIGKILL')
    expect(await exit).toEqual([1, null])
    expect(isMounted()).toBe(false)
  })

  test('a wrong key is named before anything is mounted; other commands and their exit codes are LiteFS’s', async () => {
    writeFileSync(config, `${readFileSync(config, 'utf8').slice(0, -1)}, "fuze": {}}`)
    expect(await once(start('mount', '--config', config), 'exit')).toEqual([2, null])
    expect(printed).toContain('unknown key "fuze"')
    expect(await once(start('export', '-name', 'app.db', '-url', url, '/nowhere'), 'exit')).toEqual([1, null])
    expect(printed).toContain('connection refused')
  })

  test('import and export of LiteFS', async () => {
    start('mount', '--config', config)
    await expect.poll(() => printed, POLL).toContain('litefs is ready')
    const watched = child!
    const [from, to] = [path.join(directory, 'in.db'), path.join(directory, 'out.db')]
    await shell(from, "CREATE TABLE note (text); INSERT INTO note VALUES ('brought')")
    expect(await once(start('import', '-name', 'app.db', '-url', url, from), 'exit')).toEqual([0, null])
    expect(await once(start('export', '-name', 'app.db', '-url', url, to), 'exit')).toEqual([0, null])
    expect(existsSync(to)).toBe(true)
    expect(integrityOf(to)).toBe('ok')
    child = watched
  })
})
