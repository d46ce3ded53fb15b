/** What the figures were measured on: enough to compare them, nothing that names the machine. */
import Database from 'better-sqlite3'
import { closeSync, fdatasyncSync, openSync, rmSync, writeSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'

export interface Machine {
  readonly cpu: string
  readonly cores: number
  readonly memoryGb: number
  readonly kernel: string
  /** Median time of a 4 KiB write with fdatasync in the directory of the bench, in ms: what a durable commit costs at least. */
  readonly fdatasyncMs: number
  readonly node: string
  readonly sqlite: string
}

export function describeMachine(directory: string): Machine {
  const cpus = os.cpus()
  return {
    cpu: cpus[0]?.model.trim() ?? 'unknown',
    cores: cpus.length,
    memoryGb: Math.round(os.totalmem() / 2 ** 30),
    kernel: `${os.type()} ${os.release()} ${os.arch()}`,
    fdatasyncMs: Number(measureDataSyncMs(path.join(directory, 'fdatasync')).toFixed(3)),
    node: process.version,
    sqlite: sqliteVersion(),
  }
}

function measureDataSyncMs(file: string): number {
  const page = Buffer.alloc(4096, 1)
  const fd = openSync(file, 'w')
  try {
    const times: number[] = []
    for (let i = 0; i < 100; i++) {
      const startedMs = performance.now()
      writeSync(fd, page, 0, page.length, i * page.length)
      fdatasyncSync(fd)
      times.push(performance.now() - startedMs)
    }
    return times.sort((a, b) => a - b)[50]!
  } finally {
    closeSync(fd)
    rmSync(file)
  }
}

function sqliteVersion(): string {
  const database = new Database(':memory:')
  const version = database.prepare('SELECT sqlite_version()').pluck().get() as string
  database.close()
  return version
}
