/** Plain values and SQL values for `JSON.stringify`, which knows no bigint, bytes or `undefined`. */

/** A bigint becomes its decimal text, bytes `{ base64 }`, a date its ISO text, `undefined` null. */
export function plainJson(value: unknown): unknown {
  if (value === undefined) return null
  if (typeof value === 'bigint') return value.toString()
  if (value instanceof Uint8Array) return { base64: Buffer.from(value).toString('base64') }
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString()
  if (Array.isArray(value)) return value.map(plainJson)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plainJson(item)]))
}
