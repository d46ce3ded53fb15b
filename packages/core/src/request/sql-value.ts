/**
 * The values SQL statements take and give, as better-sqlite3 sees them.
 * A `number` is a double, a `bigint` a 64-bit integer. A boolean is refused, as better-sqlite3 does; see `admit-operation.ts`.
 */
export type SqlValue = null | number | bigint | string | Uint8Array

/** Positional or named parameters; names come without their `@`, `:` or `$`. */
export type SqlParams = readonly SqlValue[] | Readonly<Record<string, SqlValue>>

/** One row as an object: column name → value. */
export type SqlRow = Record<string, SqlValue>
