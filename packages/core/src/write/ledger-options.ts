/** How long and how much the request ledger of a database remembers. */
import { invalidOption, rejectUnknownOptions } from '../errors/unknown-option.ts'

export interface LedgerOptions {
  /** How long a request id and an idempotency key are remembered, in ms. 60,000 … 30 days. Default: 24 hours. */
  readonly retentionMs?: number | undefined
  /**
   * How long request ids are remembered at least when the ledger is nearly full, in ms: rows between this age and `retentionMs`
   * then go early, oldest first. Idempotency keys are never dropped early. 60,000 … `retentionMs`. Default: ten minutes.
   */
  readonly retentionMinMs?: number | undefined
  /** Rows kept for request ids, and as many for keys. At the bound new requests are refused (`LEDGER_FULL`). Default: 10,000,000. */
  readonly rowsMax?: number | undefined
  /** Bytes kept for request ids, and as many for keys; an estimate. Default: 4 GiB. */
  readonly bytesMax?: number | undefined
  /** A larger answer is not kept: its request gets `ANSWER_DROPPED` when repeated. Default: 64 KiB. */
  readonly answerBytesMax?: number | undefined
}

export type ResolvedLedgerOptions = { readonly [K in keyof LedgerOptions]-?: number }

const DAY_MS = 24 * 60 * 60_000

export const LEDGER_DEFAULTS: ResolvedLedgerOptions = Object.freeze({
  retentionMs: DAY_MS,
  retentionMinMs: 10 * 60_000,
  rowsMax: 10_000_000,
  bytesMax: 4 * 1024 ** 3,
  answerBytesMax: 64 * 1024,
})

/** Applies defaults and checks ranges. Throws `INVALID_OPTION`. */
export function resolveLedgerOptions(given: LedgerOptions = {}, where = 'ledger'): ResolvedLedgerOptions {
  rejectUnknownOptions(given, Object.keys(LEDGER_DEFAULTS), where)
  const option = (name: keyof LedgerOptions, min: number, max: number, fallback = LEDGER_DEFAULTS[name]): number => {
    const value = given[name] ?? fallback
    if (Number.isSafeInteger(value) && value >= min && value <= max) return value
    return invalidOption(where, name, value, `an integer ${min} … ${max}`)
  }
  const retentionMs = option('retentionMs', 60_000, 30 * DAY_MS)
  return Object.freeze({
    retentionMs,
    retentionMinMs: option(
      'retentionMinMs',
      60_000,
      retentionMs,
      Math.min(LEDGER_DEFAULTS.retentionMinMs, retentionMs),
    ),
    rowsMax: option('rowsMax', 1, Number.MAX_SAFE_INTEGER),
    bytesMax: option('bytesMax', 1, Number.MAX_SAFE_INTEGER),
    answerBytesMax: option('answerBytesMax', 0, 16 * 1024 * 1024),
  })
}
