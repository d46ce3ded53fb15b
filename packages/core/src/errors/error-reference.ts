/** Renders the error table as `docs/errors.md`. */
import { type ErrorTraits, errorTable } from './error-table.ts'

const OUTCOMES = {
  'not-applied': 'not applied',
  applied: 'applied',
  unknown: 'unknown',
  none: '–',
} as const satisfies Record<ErrorTraits['outcome'], string>

const RETRIES = {
  never: 'no: the same call fails again, or is not needed',
  'at-primary': 'at the node named in the details',
  'after-backoff': 'yes, after a pause',
  'same-request-id': 'only under the same request id',
} as const satisfies Record<ErrorTraits['retry'], string>

/** The whole document. */
export function renderErrorReference(): string {
  const rows = Object.entries(errorTable).map(
    ([code, { outcome, retry, meaning }]) => `| \`${code}\` | ${meaning} | ${OUTCOMES[outcome]} | ${RETRIES[retry]} |`,
  )
  return `# Errors

Generated from \`packages/core/src/errors/error-table.ts\`; \`pnpm docs\` writes it anew.

Every operational failure is a \`ClusterError\` with one of these codes. \`outcome\` says what became of the write, if there was one;
\`retry\` whether to repeat it. \`details\` carry facts (positions, names, the answer of an applied write), \`hint\` what to do about it.
Those of a write carry \`details.requestId\` (also \`error.requestId\`) if it had one, and \`details.phase\`, how far it had come
([unknown outcomes](unknown-outcomes.md)).
SQLite's own errors are not wrapped: they arrive as better-sqlite3's \`SqliteError\`, on whichever node the call was made.

| Code | Meaning | The write is | Retry |
|---|---|---|---|
${rows.join('\n')}
`
}
