/** Fills in the defaults of an option object and checks types and ranges against a table. */
import { invalidOption, rejectUnknownOptions } from '../errors/unknown-option.ts'

/** Option → smallest and largest integer it accepts. An option without a range is checked by type only. */
export type OptionRanges = Readonly<Record<string, readonly [number, number]>>

/** Frozen, nothing optional. Throws `INVALID_OPTION` with `where` in the message. */
export function resolveOptions<T extends object>(given: object, defaults: T, ranges: OptionRanges, where: string): T {
  rejectUnknownOptions(given, Object.keys(defaults), where)
  const set = Object.entries(given).filter(([, value]) => value !== undefined)
  for (const [name, value] of set) {
    const range = ranges[name]
    const expected = typeof defaults[name as keyof T]
    if (typeof value !== expected) invalidOption(where, name, value, `a ${expected}`)
    if (range !== undefined && !(Number.isInteger(value) && value >= range[0] && value <= range[1]))
      invalidOption(where, name, value, `an integer from ${range[0]} to ${range[1]}`)
  }
  return Object.freeze({ ...defaults, ...Object.fromEntries(set) })
}
