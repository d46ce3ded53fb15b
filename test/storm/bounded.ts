/** Waits that end. */
import { setTimeout as sleep } from 'node:timers/promises'

export class TooLong extends Error {
  override readonly name = 'TooLong'
}

/** The promise, or `TooLong`; what it settles to afterwards is dropped. */
export async function within<T>(ms: number, what: string, promise: Promise<T>): Promise<T> {
  const timer = new AbortController()
  const tooLong = sleep(ms, undefined, { signal: timer.signal }).then((): never => {
    throw new TooLong(`${what} took longer than ${ms} ms`)
  })
  promise.catch(() => undefined)
  tooLong.catch(() => undefined)
  try {
    return await Promise.race([promise, tooLong])
  } finally {
    timer.abort()
  }
}

/** Asks again and again until the answer is true; false when it was not in time. */
export async function until(ms: number, isSo: () => boolean | Promise<boolean>, everyMs = 20): Promise<boolean> {
  const deadlineMs = performance.now() + ms
  while (!(await isSo())) {
    if (performance.now() > deadlineMs) return false
    await sleep(everyMs)
  }
  return true
}
