/** The sample litefs.yml at the top of the repository is complete: it has every key LiteFS 0.5 knows, and no other. */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { parseDocument } from 'yaml'

const file = path.resolve(import.meta.dirname, '../../../litefs.yml')
const document = parseDocument(readFileSync(file, 'utf8'), { strict: true, uniqueKeys: true })
const sample = document.toJS() as Readonly<Record<string, unknown>>

/** Keys of the document that hold a value. */
const VALUES = ['exit-on-error', 'skip-sync', 'strict-verify', 'exec']

/** Section → its keys, from the configuration structs of LiteFS 0.5. */
const SECTIONS: Readonly<Record<string, readonly string[]>> = {
  data: ['dir', 'compress', 'retention', 'retention-monitor-interval'],
  fuse: ['dir', 'allow-other', 'debug'],
  http: ['addr', 'snapshot-timeout'],
  proxy: [
    'addr',
    'target',
    'db',
    'max-lag',
    'debug',
    'passthrough',
    'always-forward',
    'primary-redirect-timeout',
    'read-timeout',
    'read-header-timeout',
    'write-timeout',
    'idle-timeout',
  ],
  lease: [
    'type',
    'hostname',
    'advertise-url',
    'candidate',
    'promote',
    'reconnect-delay',
    'demote-delay',
    'databases',
    'consul',
  ],
  backup: ['type', 'path', 'url', 'cluster', 'auth-token'],
  log: ['format', 'timestamp', 'debug'],
  tracing: ['enabled', 'path', 'max-size', 'max-count', 'compress'],
}

test('litefs.yml is YAML without errors or warnings', () => {
  expect(document.errors).toEqual([])
  expect(document.warnings).toEqual([])
})

test('litefs.yml has every section of LiteFS and no other', () => {
  expect(Object.keys(sample).sort()).toEqual([...VALUES, ...Object.keys(SECTIONS)].sort())
})

test.each(Object.entries(SECTIONS))('litefs.yml: section %s has every key and no other', (section, keys) => {
  expect(Object.keys(sample[section] as object).sort()).toEqual([...keys].sort())
})

test('litefs.yml: consul and exec have every key', () => {
  const lease = sample['lease'] as { consul: object }
  expect(Object.keys(lease.consul).sort()).toEqual(['key', 'lock-delay', 'ttl', 'url'])
  expect(sample['exec']).toEqual([{ cmd: expect.any(String), 'if-candidate': true }, { cmd: expect.any(String) }])
})

test('litefs.yml: every duration is one Go can parse', () => {
  const durations = ['retention', 'retention-monitor-interval', 'snapshot-timeout', 'max-lag', 'reconnect-delay', 'ttl']
  for (const key of durations) expect(valueOf(sample, key), key).toMatch(/^\d+(ms|s|m|h)$/)
})

function valueOf(map: object, key: string): unknown {
  for (const [name, value] of Object.entries(map)) {
    if (name === key) return value
    if (typeof value === 'object' && value !== null) {
      const inner = valueOf(value as object, key)
      if (inner !== undefined) return inner
    }
  }
  return undefined
}
