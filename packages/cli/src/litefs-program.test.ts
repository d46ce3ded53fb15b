import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { checkLiteFs, findLiteFs, requireKnownVersion } from './litefs-program.ts'

let directory: string
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'litefleet-program-'))
})
afterEach(() => rmSync(directory, { recursive: true }))

function program(says: string, mode = 0o755): string {
  const file = path.join(directory, 'litefs')
  writeFileSync(file, `#!/bin/sh\n${says}\n`)
  chmodSync(file, mode)
  return file
}

test('litefs is found on the PATH, or where the variable says', () => {
  const file = program('true')
  expect(findLiteFs({ PATH: `/nowhere:${directory}` })).toBe(file)
  expect(findLiteFs({ PATH: '/nowhere', LITEFLEET_LITEFS_BIN: file })).toBe(file)
})

test('what is missing or cannot be run is named, with the way to get it', () => {
  expect(() => findLiteFs({ PATH: '/nowhere' })).toThrow(/no litefs program[^]*go install[^]*LITEFLEET_LITEFS_BIN/)
  expect(() => findLiteFs({})).toThrow(/no litefs program/)
  expect(() => findLiteFs({ LITEFLEET_LITEFS_BIN: program('true', 0o644) })).toThrow(/cannot be run[^]*go install/)
})

test('its version is checked', async () => {
  expect(await checkLiteFs(program('echo "LiteFS v0.5.14, commit=abc"'))).toBe('LiteFS v0.5.14, commit=abc')
  expect(await checkLiteFs(program('echo "LiteFS development build"'))).toBe('LiteFS development build')
  await expect(checkLiteFs(program('echo "LiteFS v0.4.0"'))).rejects.toThrow(/LiteFS 0.4.0 is not known here/)
  await expect(checkLiteFs(program('echo "another program"'))).rejects.toThrow(/does not say that it is LiteFS/)
  await expect(checkLiteFs(program('exit 3'))).rejects.toThrow(/does not say that it is LiteFS/)
  expect(() => requireKnownVersion('LiteFS v1.0.0')).toThrow(/1.0.0/)
})
