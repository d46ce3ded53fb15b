/**
 * LiteFS's configuration file, as LiteFS 0.5.14 reads it: every key it knows and no other, with its types and rules.
 *
 * A value that is not given is `undefined`, as is a key without a value; what LiteFS then takes stands in the repository's `litefs.yml`. Durations are
 * texts in Go's notation (`1m30s`), and come out in ms. A text is what stands in the file: a name such as `007` or `1e5` is no number.
 */
import { parseGoDuration } from './go-duration.ts'
import { expandLiteFsVariables } from './litefs-expand.ts'
import { invalidValue, rejectUnknownKeys } from './unknown-key.ts'
import { parseYaml, valueOf } from './yaml-document.ts'

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

/** A place in the document, read in two ways. */
interface Given {
  readonly value: unknown
  /** The same, with every scalar as the text that stands in the file. */
  readonly text: unknown
}

/** What LiteFS takes where the file gives none. */
export const LITEFS_DEFAULTS = { dataDir: '/var/lib/litefs', fuseDir: '/litefs', httpAddr: ':20202' } as const

/**
 * @param where named in errors
 * @param env `undefined`: variables are left as they stand
 * @throws ClusterError `INVALID_OPTION`
 */
export function parseLiteFsConfig(text: string, where: string, env: NodeJS.ProcessEnv | undefined): LiteFsConfig {
  const expanded = env === undefined ? text : expandLiteFsVariables(text, env)
  const document: Given = {
    value: valueOf(parseYaml(expanded, where, { merge: true }), where),
    text: valueOf(parseYaml(expanded, where, { merge: true, schema: 'failsafe' }), where),
  }
  const top = document.value
  if (!isMap(top)) return invalidValue(where, 'it', top, 'a map of keys and values')
  rejectUnknownKeys(top, TOP, where)
  const given: string[] = []
  const sections: Record<string, Record<string, Value>> = {}
  for (const [section, keys] of Object.entries(LITEFS_KEYS)) {
    sections[section] = readSection(below(document, section), section, keys, where, given)
  }
  for (const flag of FLAGS) {
    if (isGiven(top[flag])) given.push((read(below(document, flag), 'boolean', where, flag), flag))
  }
  if (isGiven(top['exec'])) given.push((readExec(top['exec'], where), 'exec'))
  const config = { ...sections, given } as unknown as LiteFsConfig
  requireRules(config, where)
  return config
}

function readSection(
  section: Given,
  name: string,
  keys: Readonly<Record<string, Kind>>,
  where: string,
  given: string[],
): Record<string, Value> {
  const map = section.value ?? {}
  if (!isMap(map)) return invalidValue(where, name, map, 'a map of keys and values')
  const deeper = Object.keys(keys).filter((key) => key.startsWith(`${CONSUL}.`))
  const names = Object.keys(keys).filter((key) => !deeper.includes(key))
  rejectUnknownKeys(map, deeper.length === 0 ? names : [...names, CONSUL], `${where}: ${name}`)
  const consul = map[CONSUL] ?? {}
  if (!isMap(consul)) return invalidValue(where, `${name}.${CONSUL}`, consul, 'a map of keys and values')
  const namesBelow = deeper.map((key) => key.slice(CONSUL.length + 1))
  rejectUnknownKeys(consul, namesBelow, `${where}: ${name}.${CONSUL}`)
  const found: Record<string, Value> = {}
  for (const [key, kind] of Object.entries(keys)) {
    const one = deeper.includes(key) ? below(below(section, CONSUL), key.slice(CONSUL.length + 1)) : below(section, key)
    if (!isGiven(one.value)) continue
    found[key] = read(one, kind, where, `${name}.${key}`)
    given.push(`${name}.${key}`)
  }
  return found
}

function read({ value, text }: Given, kind: Kind, where: string, key: string): Value {
  switch (kind) {
    case 'text':
      return typeof text === 'string' ? text : invalidValue(where, key, value, 'a text')
    case 'boolean':
      return booleanOf(value) ?? invalidValue(where, key, value, 'true or false')
    case 'integer':
      return Number.isInteger(value) ? (value as number) : invalidValue(where, key, value, 'a whole number')
    case 'texts':
      return isTexts(text) && Array.isArray(value) && value.every(isGiven)
        ? text
        : invalidValue(where, key, value, 'a list of texts')
    case 'duration':
      return (
        (typeof value === 'string' ? parseGoDuration(value) : undefined) ??
        invalidValue(where, key, value, 'a duration such as 500ms, 10s or 1h30m, as a text')
      )
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
    const flag = one['if-candidate']
    if (isGiven(flag) && booleanOf(flag) === undefined)
      return invalidValue(where, `exec[${i}].if-candidate`, flag, 'true or false')
  }
}

/** What LiteFS refuses when it starts. */
function requireRules({ lease, data, fuse, log, proxy, backup }: LiteFsConfig, where: string): void {
  const { type } = lease
  if (type !== 'consul' && type !== 'static') invalidValue(where, 'lease.type', type, 'consul or static')
  if (lease.candidate !== false && (lease.databases?.length ?? 0) > 0)
    invalidValue(where, 'lease.databases', lease.databases, 'names of databases on nodes with candidate: false only')
  if (type === 'consul' && (lease['consul.key'] ?? '') === '')
    invalidValue(where, 'lease.consul.key', '', 'the key of the election')
  if (type === 'static' && lease.candidate === false && (lease['advertise-url'] ?? '') === '')
    invalidValue(where, 'lease.advertise-url', '', "the primary's URL, on a replica with type: static")
  if (data.dir === '') invalidValue(where, 'data.dir', '', 'a directory')
  if (fuse.dir === '') invalidValue(where, 'fuse.dir', '', 'a directory')
  const { dataDir, fuseDir } = LITEFS_DEFAULTS
  if ((data.dir ?? dataDir) === (fuse.dir ?? fuseDir))
    invalidValue(where, 'fuse.dir', fuse.dir ?? fuseDir, 'another directory than data.dir')
  for (const key of ['db', 'addr'] as const) {
    // Without a target there is no proxy, whatever else is given.
    if ((proxy.target ?? '') !== '' && (proxy[key] ?? '') === '')
      invalidValue(where, `proxy.${key}`, proxy[key], 'what goes with proxy.target, which turns the proxy on')
  }
  if (backup.type !== undefined && !['', 'file', 'litefs-cloud'].includes(backup.type))
    invalidValue(where, 'backup.type', backup.type, '"", file or litefs-cloud')
  if (log.format !== undefined && !['text', 'json'].includes(log.format))
    invalidValue(where, 'log.format', log.format, 'text or json')
}

/** As Go's YAML does for a flag: also the words of YAML 1.1. */
function booleanOf(value: unknown): boolean | undefined {
  if (typeof value === 'boolean') return value
  if (typeof value !== 'string') return undefined
  if (/^(?:y|Y|yes|Yes|YES|on|On|ON)$/.test(value)) return true
  return /^(?:n|N|no|No|NO|off|Off|OFF)$/.test(value) ? false : undefined
}

function below({ value, text }: Given, key: string): Given {
  return { value: isMap(value) ? value[key] : undefined, text: isMap(text) ? text[key] : undefined }
}

function isGiven(value: unknown): boolean {
  return value !== undefined && value !== null
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((one) => typeof one === 'string')
}

function unreachable(kind: never): never {
  throw new Error(`no kind of value: ${String(kind)}`)
}

function isMap(value: unknown): value is Map {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
