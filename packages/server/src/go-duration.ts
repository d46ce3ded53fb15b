/** Durations in Go's notation (`time.ParseDuration`): `500ms`, `1h30m`, `.5s`, `-1s`, `0`. */

const UNIT_MS: Readonly<Record<string, number>> = {
  h: 3_600_000,
  m: 60_000,
  s: 1_000,
  ms: 1,
  us: 1e-3,
  '\u00b5s': 1e-3, // the micro sign
  '\u03bcs': 1e-3, // the Greek letter
  ns: 1e-6,
}
const PART = '(\\d+(?:\\.\\d*)?|\\.\\d+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h)'
const WHOLE = new RegExp(`^([+-]?)((?:${PART})+)$`)

/** In ms, with fractions; `undefined` for what is no duration. Only 0 may stand without a unit. */
export function parseGoDuration(text: string): number | undefined {
  if (/^[+-]?0$/.test(text)) return 0
  const [, sign, parts] = WHOLE.exec(text) ?? []
  if (parts === undefined) return undefined
  let ms = 0
  for (const [, number, unit] of parts.matchAll(new RegExp(PART, 'g'))) ms += Number(number) * UNIT_MS[unit!]!
  return sign === '-' ? -ms : ms
}
