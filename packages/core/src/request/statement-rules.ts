/**
 * Which statements may run in a replicated write, and which on a local read handle.
 *
 * The transaction and the connection belong to the cluster: a request shares its transaction with other requests and its
 * connection with every later one. So a statement that would begin, end or divide a transaction, reach another file, keep
 * something on the connection, or change how the connection behaves is refused by name, before it is prepared (some pragmas
 * take effect while they are prepared).
 *
 * | statement | in a write | on a read handle |
 * |---|---|---|
 * | BEGIN COMMIT END ROLLBACK SAVEPOINT RELEASE ATTACH DETACH | refused | refused |
 * | CREATE TEMP …, CREATE … temp.x | refused: lives on one connection of one node | refused |
 * | VACUUM | runs outside any transaction, alone in its batch | refused |
 * | VACUUM INTO | refused: writes another file | refused |
 * | PRAGMA, see the table below | listed ones | listed ones |
 * | EXPLAIN of a pragma | as the pragma | as the pragma |
 * | EXPLAIN of anything else, everything else | plain | plain; SQLite itself says whether it writes |
 */
import { ClusterError } from '../errors/cluster-error.ts'
import { type SqlToken, SqlTokens } from './sql-tokens.ts'

export type StatementRule =
  /** `word` names what is refused, e.g. `BEGIN`, `CREATE TEMP`, `PRAGMA journal_mode`. */
  | { readonly kind: 'refused'; readonly word: string }
  /** SQLite refuses it inside a transaction. */
  | { readonly kind: 'outside-transaction'; readonly word: string }
  /** It would change how the other requests of its group behave: needs a transaction of its own. */
  | { readonly kind: 'alone'; readonly word: string }
  /** `isPragma`: may have to be stepped more than once although it returns no columns. */
  | { readonly kind: 'plain'; readonly isPragma: boolean }

/** What may run on a local read handle. Whether a plain statement writes is for SQLite to say (`stmt.readonly`). */
export type ReadRule = { readonly kind: 'refused'; readonly word: string } | { readonly kind: 'plain' }

const PLAIN: StatementRule = Object.freeze({ kind: 'plain', isPragma: false })
const PLAIN_PRAGMA: StatementRule = Object.freeze({ kind: 'plain', isPragma: true })

const REFUSED_WORDS = new Set(['BEGIN', 'COMMIT', 'END', 'ROLLBACK', 'SAVEPOINT', 'RELEASE', 'ATTACH', 'DETACH'])

/** Where one form of a pragma may run. `alone`: in a write, in a transaction of its own. */
type PragmaUse = 'anywhere' | 'write' | 'alone' | 'never'

/**
 * Pragmas that make sense in a cluster: name → [without argument, with argument]. All others are refused, among them
 * wal_checkpoint (the cluster's own business), case_sensitive_like and shrink_memory (they act on the connection).
 */
const PRAGMAS: ReadonlyMap<string, readonly [bare: PragmaUse, given: PragmaUse]> = new Map<
  string,
  [PragmaUse, PragmaUse]
>([
  // stored in the database, so they replicate
  ...each(['user_version', 'application_id'], 'anywhere', 'write'),
  // writes that need no more than a transaction
  ...each(['optimize', 'incremental_vacuum'], 'write', 'write'),
  // until the end of the transaction
  ...each(['defer_foreign_keys'], 'anywhere', 'alone'),
  // answers about schema and content; the argument only narrows the question
  ...each(
    ['table_info', 'table_xinfo', 'table_list', 'index_list', 'index_info', 'index_xinfo'],
    'anywhere',
    'anywhere',
  ),
  ...each(['foreign_key_list', 'foreign_key_check', 'integrity_check', 'quick_check'], 'anywhere', 'anywhere'),
  // answers about the library and the file
  ...each(['database_list', 'collation_list', 'function_list', 'module_list', 'pragma_list'], 'anywhere', 'never'),
  ...each(['compile_options', 'page_count', 'freelist_count', 'data_version'], 'anywhere', 'never'),
  // settings of the connection or the file: may be looked at, are set in the setup hook or at creation
  ...each(
    ['schema_version', 'page_size', 'max_page_count', 'encoding', 'auto_vacuum', 'journal_mode'],
    'anywhere',
    'never',
  ),
  ...each(
    ['synchronous', 'locking_mode', 'wal_autocheckpoint', 'journal_size_limit', 'secure_delete'],
    'anywhere',
    'never',
  ),
  ...each(['foreign_keys', 'recursive_triggers', 'ignore_check_constraints', 'query_only'], 'anywhere', 'never'),
  ...each(['cache_size', 'cache_spill', 'mmap_size', 'temp_store', 'busy_timeout', 'threads'], 'anywhere', 'never'),
  ...each(['automatic_index', 'analysis_limit', 'reverse_unordered_selects', 'cell_size_check'], 'anywhere', 'never'),
  ...each(['trusted_schema', 'writable_schema', 'legacy_alter_table', 'read_uncommitted'], 'anywhere', 'never'),
])

/** How `sql` may run in a write. Reads a few leading words only; callers cache the answer by text. */
export function classifyStatement(sql: string): StatementRule {
  const tokens = new SqlTokens(sql)
  const { word, isExplained } = leadingWord(tokens)
  if (word === 'PRAGMA') {
    const pragma = readPragma(tokens)
    if (pragma.use === 'never') return { kind: 'refused', word: pragma.word }
    return pragma.use === 'alone' ? { kind: 'alone', word: pragma.word } : PLAIN_PRAGMA
  }
  if (isExplained) return PLAIN
  if (REFUSED_WORDS.has(word)) return { kind: 'refused', word }
  if (word === 'CREATE' && createsTemporary(tokens)) return { kind: 'refused', word: 'CREATE TEMP' }
  if (word !== 'VACUUM') return PLAIN
  return vacuumsInto(tokens) ? { kind: 'refused', word: 'VACUUM INTO' } : { kind: 'outside-transaction', word }
}

/** Whether `sql` may be prepared on a local read handle. */
export function classifyRead(sql: string): ReadRule {
  const tokens = new SqlTokens(sql)
  const { word, isExplained } = leadingWord(tokens)
  if (word === 'PRAGMA') {
    const pragma = readPragma(tokens)
    return pragma.use === 'anywhere' ? { kind: 'plain' } : { kind: 'refused', word: pragma.word }
  }
  if (isExplained) return { kind: 'plain' }
  if (REFUSED_WORDS.has(word) || word === 'VACUUM') return { kind: 'refused', word }
  if (word === 'CREATE' && createsTemporary(tokens)) return { kind: 'refused', word: 'CREATE TEMP' }
  return { kind: 'plain' }
}

/** The error for a refused statement of a write. */
export function statementRefused(word: string): ClusterError {
  return new ClusterError('STATEMENT_REFUSED', `${word} is not allowed in a write`, {
    hint: hintFor(word),
    details: { word },
  })
}

function hintFor(word: string): string {
  if (word.startsWith('PRAGMA')) return 'Settings of the connection belong in the setup hook, which runs on every node.'
  if (word === 'CREATE TEMP') return 'Temporary objects would exist on one node only; use an ordinary table or a CTE.'
  if (word === 'ATTACH' || word === 'DETACH')
    return 'A write concerns one database; open the other one with cluster.database().'
  if (word === 'VACUUM INTO') return 'Copy a database with an export or a backup.'
  if (word.startsWith('VACUUM')) return 'Make VACUUM the only statement of its batch.'
  return 'Each batch and each procedure is a transaction already; tx.savepoint() divides one.'
}

function leadingWord(tokens: SqlTokens): { readonly word: string; readonly isExplained: boolean } {
  // Empty statements in front are skipped by SQLite, too.
  let token = tokens.next()
  while (token.kind === 'symbol' && token.text === ';') token = tokens.next()
  let word = asWord(token)
  if (word !== 'EXPLAIN') return { word, isExplained: false }
  word = asWord(tokens.next())
  if (word === 'QUERY' && asWord(tokens.next()) === 'PLAN') word = asWord(tokens.next())
  return { word, isExplained: true }
}

/** CREATE TEMP …, or a name in the schema `temp`. */
function createsTemporary(tokens: SqlTokens): boolean {
  let token = tokens.next()
  if (/^TEMP(ORARY)?$/.test(asWord(token))) return true
  // … [UNIQUE] INDEX | TABLE | VIEW | TRIGGER | VIRTUAL TABLE [IF NOT EXISTS] name . name
  while (/^(UNIQUE|INDEX|TABLE|VIEW|TRIGGER|VIRTUAL|IF|NOT|EXISTS)$/.test(asWord(token))) token = tokens.next()
  return isName(token) && token.text.toLowerCase() === 'temp' && tokens.next().text === '.'
}

/** VACUUM [schema] INTO file */
function vacuumsInto(tokens: SqlTokens): boolean {
  const first = tokens.next()
  return asWord(first) === 'INTO' || (isName(first) && asWord(tokens.next()) === 'INTO')
}

/** PRAGMA [schema .] name [= value | ( value )] */
function readPragma(tokens: SqlTokens): { readonly use: PragmaUse; readonly word: string } {
  let name = tokens.next()
  let after = tokens.next()
  if (after.kind === 'symbol' && after.text === '.') {
    if (name.text.toLowerCase() === 'temp') return { use: 'never', word: 'PRAGMA temp' }
    name = tokens.next()
    after = tokens.next()
  }
  const pragma = name.text.toLowerCase()
  const forms = PRAGMAS.get(pragma)
  if (forms === undefined) return { use: 'never', word: `PRAGMA ${pragma}` }
  const isGiven = after.kind === 'symbol' && (after.text === '=' || after.text === '(')
  return isGiven ? { use: forms[1], word: `PRAGMA ${pragma} =` } : { use: forms[0], word: `PRAGMA ${pragma}` }
}

function asWord(token: SqlToken): string {
  return token.kind === 'word' ? token.text.toUpperCase() : ''
}

function isName(token: SqlToken): boolean {
  return token.kind === 'word' || token.kind === 'name' || token.kind === 'string'
}

function each(names: readonly string[], bare: PragmaUse, given: PragmaUse): [string, [PragmaUse, PragmaUse]][] {
  return names.map((name) => [name, [bare, given]])
}
