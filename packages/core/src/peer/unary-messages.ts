/**
 * The messages of the unary methods as proto-loader's plain objects: what programs in other languages send and get.
 * Field comments are in `proto/litefleet/v1/peer.proto`; the settings behind the shapes are in `protocol.ts`. The name
 * of the chosen field of a oneof stands in a field named like the oneof (`kind`, `operation`, `target`, `outcome`);
 * writers leave it out.
 */
import type { WirePosition } from './wire-messages.ts'

export interface WireSqlValue {
  readonly kind?: 'null' | 'number' | 'integer' | 'text' | 'blob'
  readonly null?: boolean
  readonly number?: number
  readonly integer?: string
  readonly text?: string
  readonly blob?: Uint8Array
}

export interface WirePlainValue {
  readonly kind?: 'null' | 'undefined' | 'boolean' | 'number' | 'bigint' | 'text' | 'bytes' | 'date' | 'list' | 'object'
  readonly null?: boolean
  readonly undefined?: boolean
  readonly boolean?: boolean
  readonly number?: number
  readonly bigint?: string
  readonly text?: string
  readonly bytes?: Uint8Array
  readonly date?: number
  readonly list?: { readonly items: readonly WirePlainValue[] }
  readonly object?: { readonly entries: readonly { readonly key: string; readonly value?: WirePlainValue | null }[] }
}

export interface WireAwaitLevel {
  readonly named?: string
  readonly replicas?: number
}

export interface WireStatement {
  readonly sql: string
  readonly positional: readonly WireSqlValue[]
  readonly named: readonly { readonly name: string; readonly value?: WireSqlValue | null }[]
  readonly safeIntegers: boolean
}

export interface WireWriteRequest {
  readonly database: string
  readonly batch?: { readonly statements: readonly WireStatement[] }
  readonly procedure?: { readonly name: string; readonly input?: WirePlainValue | null }
  readonly requestId: Uint8Array
  readonly idempotencyKey: string
  readonly awaitLevel?: WireAwaitLevel | null
  readonly timeoutMs: number
}

export interface WireStatementResult {
  readonly changes: string
  readonly lastInsertRowid: WireSqlValue
  readonly returnsRows: boolean
  readonly columns: readonly string[]
  readonly rows: readonly { readonly values: readonly WireSqlValue[] }[]
}

export interface WireWriteAnswer {
  readonly results?: readonly WireStatementResult[]
  readonly value?: WirePlainValue | null
  readonly position: WirePosition
  readonly epoch: string
  readonly level: WireAwaitLevel
  readonly uncounted: readonly string[]
  readonly requestId: Uint8Array
  readonly replayed: boolean
}

export interface WireFailure {
  readonly kind: 'CLUSTER' | 'SQLITE' | 'APPLICATION'
  readonly code: string
  readonly message: string
  readonly outcome: string
  readonly retry: string
  readonly hint: string
  readonly details: WirePlainValue
  readonly name: string
}

export type WireWriteReply = { readonly answer: WireWriteAnswer } | { readonly failure: WireFailure }

export interface WireCallRequest {
  readonly target?: 'primary' | 'region' | 'node' | 'here'
  readonly region?: string
  readonly node?: string
  readonly functionName: string
  readonly input?: WirePlainValue | null
  readonly timeoutMs: number
}

export type WireCallReply = { readonly value: WirePlainValue } | { readonly failure: WireFailure }

export interface WireResolveRequest {
  readonly database: string
  readonly requestId: Uint8Array
  readonly timeoutMs: number
}

export interface WireResolution {
  readonly applied: boolean
  readonly results?: { readonly results: readonly WireStatementResult[] } | null
  readonly value?: WirePlainValue | null
  readonly position: WirePosition
  readonly epoch: string
}

export type WireResolveReply = { readonly resolution: WireResolution } | { readonly failure: WireFailure }
