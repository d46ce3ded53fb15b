/**
 * LiteFS's configuration file, as LiteFS 0.5.14 reads it: every key it knows and no other, with its types and rules.
 *
 * A value that is not given is `undefined`; what LiteFS then takes stands in the repository's `litefs.yml`. Durations are texts in Go's notation (`1m30s`),
 * and come out in ms.
 */
import { ClusterError } from '@litefleet/core'
import { parseDocument } from 'yaml'
import { expandLiteFsVariables } from './litefs-expand.ts'
import { invalidValue, rejectUnknownKeys } from './unknown-key.ts'

type Kind = 'text' | 'boolean' | 'integer' | 'duration' | 'texts'
type Value = string | boolean | number | readonly string[]

/** Section → key → what it holds. A key with a dot stands one level deeper. */
export const LITEFS_KEYS = {
  data: { dir: 'text', compress: 'boolean', retention: 'duration', 'retention-monitor-interval': 'duration' },
  fuse: { dir: 'text', 'allow-other': 'boolean', debug: 'boolean' },
  http: { addr: 'text', 'snapshot-timeout': 'duration' },
  proxy: {
    addr: 'text',
    target: 'text',
    db: 'text',
    'max-lag': 'duration',
    debug: 'boolean',
    passthrough: 'texts',
    'always-forward': 'texts',
    'primary-redirect-timeout': 'duration',
    'read-timeout': 'duration',
    'read-header-timeout': 'duration',
    'write-timeout': 'duration',
    'idle-timeout': 'duration',
  },
  lease: {
    type: 'text',
    hostname: 'text',
    'advertise-url': 'text',
    candidate: 'boolean',
    promote: 'boolean',
    'reconnect-delay': 'duration',
    'demote-delay': 'duration',
    databases: 'texts',
    'consul.url': 'text',
    'consul.key': 'text',
    'consul.ttl': 'duration',
    'consul.lock-delay': 'duration',
  },
  backup: { type: 'text', path: 'text', url: 'text', cluster: 'text', 'auth-token': 'text' },
  log: { format: 'text', timestamp: 'boolean', debug: 'boolean' },
  tracing: { enabled: 'boolean', path: 'text', 'max-size': 'integer', 'max-count': 'integer', compress: 'boolean' },
} as const satisfies Readonly<Record<string, Readonly<Record<string, Kind>>>>

const FLAGS = ['exit-on-error', 'skip-sync', 'strict-verify']
const TOP = [...FLAGS, 'exec', ...Object.keys(LITEFS_KEYS)]
const CONSUL = 'consul'

interface KindValues {
  readonly text: string
  readonly boolean: boolean
  /** In ms. */
  readonly duration: number
  readonly integer: number
  readonly texts: readonly string[]
}

/** What was given, by section. */
export type LiteFsConfig = {
  readonly [S in keyof typeof LITEFS_KEYS]: {
    readonly [K in keyof (typeof LITEFS_KEYS)[S]]?: (typeof LITEFS_KEYS)[S][K] extends Kind
      ? KindValues[(typeof LITEFS_KEYS)[S][K]]
      : never
  }
} & {
  /** All keys that were given, such as `fuse.dir`, in the order of the file. */
  readonly given: readonly string[]
}

type Map = Readonly<Record<string, unknown>>

/**
 * @param where named in errors
 * @param env `undefined`: variables are left as they stand
 * @throws ClusterError `INVALID_OPTION`
 */
export function parseLiteFsConfig(text: string, where: string, env: NodeJS.ProcessEnv | undefined): LiteFsConfig {
  const document = parseDocument(env === undefined ? text : expandLiteFsVariables(text, env), { uniqueKeys: true })
  const [problem] = document.errors
  if (problem !== undefined) throw new ClusterError('INVALID_OPTION', `${where}: ${problem.message.split('\n', 1)[0]}`)
  const top = document.toJS() as unknown
  if (!isMap(top)) return invalidValue(where, 'it', top, 'a map of keys and values')
  rejectUnknownKeys(top, TOP, where)
  const given: string[] = []
  const sections: Record<string, Record<string, Value>> = {}
  for (const [section, keys] of Object.entries(LITEFS_KEYS)) {
    sections[section] = readSection(top[section] ?? {}, section, keys, where, given)
  }
  for (const flag of FLAGS) if (top[flag] !== undefined) given.push((read(top[flag], 'boolean', where, flag), flag))
  if (top['exec'] !== undefined) given.push((readExec(top['exec'], where), 'exec'))
  const config = { ...sections, given } as unknown as LiteFsConfig
  requireRules(config, where)
  return config
}

function readSection(
  value: unknown,
  section: string,
  keys: Readonly<Record<string, Kind>>,
  where: string,
  given: string[],
): Record<string, Value> {
  if (!isMap(value)) return invalidValue(where, section, value, 'a map of keys and values')
  const deeper = Object.keys(keys).filter((key) => key.startsWith(`${CONSUL}.`))
  const names = Object.keys(keys).filter((key) => !deeper.includes(key))
  rejectUnknownKeys(value, deeper.length === 0 ? names : [...names, CONSUL], `${where}: ${section}`)
  const consul = value[CONSUL] ?? {}
  if (!isMap(consul)) return invalidValue(where, `${section}.${CONSUL}`, consul, 'a map of keys and values')
  const below = deeper.map((key) => key.slice(CONSUL.length + 1))
  rejectUnknownKeys(consul, below, `${where}: ${section}.${CONSUL}`)
  const found: Record<string, Value> = {}
  for (const [key, kind] of Object.entries(keys)) {
    const one = deeper.includes(key) ? consul[key.slice(CONSUL.length + 1)] : value[key]
    if (one === undefined || one === null) continue
    found[key] = read(one, kind, where, `${section}.${key}`)
    given.push(`${section}.${key}`)
  }
  return found
}

function read(value: unknown, kind: Kind, where: string, key: string): Value {
  switch (kind) {
    case 'text':
      // As Go's YAML does for a text: a number or true is taken for what it looks like.
      return isMap(value) || Array.isArray(value) ? invalidValue(where, key, value, 'a text') : String(value)
    case 'boolean':
      return typeof value === 'boolean' ? value : invalidValue(where, key, value, 'true or false')
    case 'integer':
      return Number.isInteger(value) ? (value as number) : invalidValue(where, key, value, 'a whole number')
    case 'texts':
      return Array.isArray(value) ? value.map(String) : invalidValue(where, key, value, 'a list of texts')
    case 'duration':
      return durationOf(value) ?? invalidValue(where, key, value, 'a duration such as 500ms, 10s or 1h30m, as a text')
    default:
      return unreachable(kind)
  }
}

function readExec(value: unknown, where: string): void {
  if (typeof value === 'string') return
  if (!Array.isArray(value)) return invalidValue(where, 'exec', value, 'a command, or a list of { cmd, if-candidate }')
  for (const [i, one] of value.entries()) {
    if (!isMap(one) || typeof one['cmd'] !== 'string')
      return invalidValue(where, `exec[${i}]`, one, '{ cmd: "…", if-candidate: true or false }')
    rejectUnknownKeys(one, ['cmd', 'if-candidate'], `${where}: exec[${i}]`)
  }
}

/** What LiteFS refuses when it starts. */
function requireRules({ lease, data, fuse, log }: LiteFsConfig, where: string): void {
  const { type } = lease
  if (type !== 'consul' && type !== 'static') invalidValue(where, 'lease.type', type, 'consul or static')
  if (lease.candidate !== false && (lease.databases?.length ?? 0) > 0)
    invalidValue(where, 'lease.databases', lease.databases, 'names of databases on nodes with candidate: false only')
  if (type === 'consul' && (lease['consul.key'] ?? '') === '')
    invalidValue(where, 'lease.consul.key', '', 'the key of the election')
  if (type === 'static' && lease.candidate === false && (lease['advertise-url'] ?? '') === '')
    invalidValue(where, 'lease.advertise-url', '', "the primary's URL, on a replica with type: static")
  if (data.dir === '') invalidValue(where, 'data.dir', '', 'a directory')
  if (data.dir !== undefined && data.dir === fuse.dir)
    invalidValue(where, 'fuse.dir', fuse.dir, 'another directory than data.dir')
  if (log.format !== undefined && !['text', 'json'].includes(log.format))
    invalidValue(where, 'log.format', log.format, 'text or json')
}

const UNIT_MS: Readonly<Record<string, number>> = {
  h: 3_600_000,
  m: 60_000,
  s: 1_000,
  ms: 1,
  us: 1e-3,
  µs: 1e-3,
  ns: 1e-6,
}

/** In ms, of Go's notation (`time.ParseDuration`); `undefined` for what is none. */
function durationOf(value: unknown): number | undefined {
  const text = typeof value === 'string' ? value : ''
  if (/^[+-]?0$/.test(text)) return 0
  const [, sign, parts] = /^([+-]?)((?:\d+(?:\.\d*)?(?:ns|us|µs|ms|s|m|h))+)$/.exec(text) ?? []
  if (parts === undefined) return undefined
  let ms = 0
  for (const [, number, unit] of parts.matchAll(/(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h)/g))
    ms += Number(number) * UNIT_MS[unit!]!
  return sign === '-' ? -ms : ms
}

function unreachable(kind: never): never {
  throw new Error(`no kind of value: ${String(kind)}`)
}

function isMap(value: unknown): value is Map {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
