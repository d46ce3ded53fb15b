/** Errors in the messages of the unary methods, both ways; what they become on the way is `error-reply.ts`'s to say. */
import { inspect } from 'node:util'
import { ClusterError } from '../errors/cluster-error.ts'
import { type ErrorCode, errorTable } from '../errors/error-table.ts'
import type { WireFailure } from '../peer/unary-messages.ts'
import type { PlainValue } from '../request/plain-value.ts'
import { fromFailure, toFailure } from './error-reply.ts'
import { decodePlainValue, encodePlainValue } from './unary-values.ts'

export function encodeWireFailure(error: unknown): WireFailure {
  const failure = toFailure(error)
  const nothing = { outcome: 'not-applied', retry: 'never', hint: '', details: { object: { entries: [] } }, name: '' }
  switch (failure.kind) {
    case 'cluster': {
      const { outcome, retry } = errorTable[failure.code]
      const details = encodePlainValue(failure.details)
      return {
        ...nothing,
        kind: 'CLUSTER',
        code: failure.code,
        message: failure.message,
        outcome,
        retry,
        hint: failure.hint ?? '',
        details,
      }
    }
    case 'sqlite':
      return { ...nothing, kind: 'SQLITE', code: failure.code, message: failure.message, name: 'SqliteError' }
    case 'application':
      return {
        ...nothing,
        kind: 'APPLICATION',
        code: textOf(failure.code),
        message: failure.message,
        name: failure.name,
      }
    default:
      return { ...nothing, kind: 'APPLICATION', code: '', message: textOf(failure.value) }
  }
}

/** What to throw. A code that this version does not know is `WRITE_OUTCOME_UNKNOWN`: what it means for a write is not known here. */
export function decodeWireFailure(wire: WireFailure): unknown {
  const { kind, code, message, hint, name } = wire
  switch (kind) {
    case 'CLUSTER': {
      if (!Object.hasOwn(errorTable, code)) {
        return new ClusterError('WRITE_OUTCOME_UNKNOWN', `the node answered with an unknown error ${code}: ${message}`)
      }
      const details = decodeDetails(wire)
      return fromFailure({
        kind: 'cluster',
        code: code as ErrorCode,
        message,
        details,
        hint: hint === '' ? undefined : hint,
      })
    }
    case 'SQLITE':
      return fromFailure({ kind: 'sqlite', code, message })
    default:
      return fromFailure({ kind: 'application', name, code: code === '' ? undefined : code, message })
  }
}

function decodeDetails({ details }: WireFailure): { readonly [key: string]: PlainValue } {
  const value = decodePlainValue(details)
  return typeof value === 'object' && value !== null ? (value as { readonly [key: string]: PlainValue }) : {}
}

function textOf(value: unknown): string {
  if (value === undefined) return ''
  return typeof value === 'string' ? value : inspect(value)
}
