/**
 * A LiteFS daemon as a child: started, watched, started again, and cleaned up after.
 *
 * Order of each life: what a dead one left mounted is unmounted → started → ready once its API answers → ended → unmounted.
 * On SIGINT and SIGTERM the child is told, and has `STOP_MS` to release its lease and unmount; a daemon that is still starting does not listen to them, and
 * is killed then.
 * Bound: it is started again after a growing wait, at most `RESTARTS_MAX` times in a row; one that was ready for `WELL_MS` begins a new row.
 */
import { execa } from 'execa'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

export interface SupervisorOptions {
  readonly program: string
  /** After `mount`. */
  readonly args: readonly string[]
  /** Where it mounts. */
  readonly mount: string
  /** Of its API, `http://host:port`. */
  readonly url: string
  readonly restart: 'never' | 'on-failure'
  /** Aborted when the daemon shall end. */
  readonly signal: AbortSignal
  /** What becomes of it, in a line. */
  log(line: string): void
}

interface Killable {
  kill(signal: NodeJS.Signals): boolean
}

const STOP_MS = 15_000
const LOOK_EVERY_MS = 100
const WAIT_MIN_MS = 500
const WAIT_MAX_MS = 30_000
const RESTARTS_MAX = 10
const WELL_MS = 60_000
const ANSWER_MS = 1_000

/** Runs the daemon until it ends for good; answers its exit code, 1 when a signal ended it. */
export async function superviseLiteFs(options: SupervisorOptions): Promise<number> {
  const { restart, signal, log } = options
  for (let restarts = 0; ; ) {
    const startedMs = performance.now()
    const code = await live(options)
    if (signal.aborted || code === 0 || restart === 'never') return code
    restarts = performance.now() - startedMs > WELL_MS ? 1 : restarts + 1
    if (restarts > RESTARTS_MAX) {
      log(`litefs ended ${restarts} times in a row: given up`)
      return code
    }
    const waitMs = Math.min(WAIT_MAX_MS, WAIT_MIN_MS * 2 ** (restarts - 1))
    log(`litefs ended with ${code}; it is started again in ${waitMs} ms`)
    await sleep(waitMs, undefined, { signal }).catch(() => undefined)
    if (signal.aborted) return code
  }
}

async function live(options: SupervisorOptions): Promise<number> {
  const { program, args, mount, url, signal, log } = options
  await unmount(mount, log)
  const child = execa(program, ['mount', ...args], { stdio: ['ignore', 'inherit', 'inherit'], reject: false })
  const stop = (): void => void child.kill('SIGTERM')
  const kill = new AbortController()
  signal.addEventListener('abort', stop, { once: true })
  const lastly = killLater(child, signal, kill.signal)
  const ended = new AbortController()
  const ready = tellReady(url, ended.signal, log)
  const { exitCode = 1 } = await child
  ended.abort()
  kill.abort()
  signal.removeEventListener('abort', stop)
  await Promise.all([ready, lastly])
  await unmount(mount, log)
  return exitCode
}

async function killLater(child: Killable, asked: AbortSignal, over: AbortSignal): Promise<void> {
  if (!asked.aborted) {
    await new Promise<void>((resolve) => {
      asked.addEventListener('abort', () => resolve(), { once: true })
      over.addEventListener('abort', () => resolve(), { once: true })
    })
  }
  await sleep(STOP_MS, undefined, { signal: over }).then(
    () => void child.kill('SIGKILL'),
    () => undefined,
  )
}

async function tellReady(url: string, over: AbortSignal, log: (line: string) => void): Promise<void> {
  while (!over.aborted) {
    if (await answers(url)) {
      log(`litefs is ready: ${url}`)
      return
    }
    await sleep(LOOK_EVERY_MS, undefined, { signal: over }).catch(() => undefined)
  }
}

async function answers(url: string): Promise<boolean> {
  try {
    return (await fetch(`${url}/info`, { signal: AbortSignal.timeout(ANSWER_MS) })).ok
  } catch {
    return false
  }
}

/** A daemon that was killed leaves a mount at which every call fails. */
async function unmount(mount: string, log: (line: string) => void): Promise<void> {
  if (!isMounted(mount)) return
  for (const program of ['fusermount3', 'fusermount']) {
    const { failed } = await execa(program, ['-u', '-z', mount], { reject: false })
    if (!failed) return log(`what a litefs before left at ${mount} was unmounted`)
  }
  log(`${mount} could not be unmounted: is fusermount3 there (Debian: fuse3)?`)
}

/** From the kernel's list: asking the directory itself may never return. */
function isMounted(mount: string): boolean {
  const escaped = mount.replace(/[ \t\n\\]/g, (one) => `\\${one.charCodeAt(0).toString(8).padStart(3, '0')}`)
  return readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .some((line) => line.split(' ')[1] === escaped && line.split(' ')[2]?.startsWith('fuse') === true)
}
