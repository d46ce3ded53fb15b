import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect, test } from 'vitest'
import { missingSystemParts } from './system-parts.ts'
import { addCounts, countVitest } from './vitest-report.ts'

const test1 = { fullName: 'a', status: 'passed' }

test('a report is counted test by test, and what did not run is named', () => {
  const counts = countVitest({
    testResults: [
      { name: 'x.test.ts', status: 'failed', assertionResults: [test1, { fullName: 'b', status: 'failed' }] },
      { name: 'y.test.ts', status: 'passed', assertionResults: [test1, { fullName: 'c', status: 'skipped' }] },
      { name: 'z.test.ts', status: 'passed', assertionResults: [{ fullName: 'd', status: 'todo' }] },
    ],
  })
  expect(counts).toEqual({ passed: 2, failed: 1, skipped: ['c', 'd'] })
})

test('a file that cannot be loaded is one failure', () => {
  const counts = countVitest({ testResults: [{ name: 'x.test.ts', status: 'failed', assertionResults: [] }] })
  expect(counts).toEqual({ passed: 0, failed: 1, skipped: [] })
  expect(addCounts(counts, counts).failed).toBe(2)
})

test('a program that is not on the PATH is named with the way to get it', () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'litefleet-path-'))
  try {
    const missing = missingSystemParts(directory)
    for (const hint of ['sqlite3', 'iproute2', 'mount', 'etcd-server', 'fuse3'])
      expect(missing).toContainEqual(expect.stringContaining(`apt-get install ${hint}`))
    for (const program of ['sqlite3', 'ip', 'mount', 'etcd', 'fusermount3'])
      writeFileSync(path.join(directory, program), '')
    expect(missingSystemParts(`/nowhere:${directory}`)).toEqual([])
  } finally {
    rmSync(directory, { recursive: true })
  }
})
