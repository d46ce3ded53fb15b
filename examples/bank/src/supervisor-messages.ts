/** What a bank node tells the process that started it, over the channel between parent and child. */
import type { MetricsReport } from './metrics.ts'

export interface ReadyMessage {
  readonly kind: 'ready'
  /** Where the bank's HTTP API listens. */
  readonly url: string
  /** The cluster's own listeners. */
  readonly grpc: string
  readonly http: string
  /** This node's copy of the database. */
  readonly databasePath: string
}

export interface ReportMessage {
  readonly kind: 'report'
  readonly role: string
  /** `<txid>/<checksum>`, 16 hex digits each. */
  readonly position: string
  readonly metrics: MetricsReport
}

export type SupervisorMessage = ReadyMessage | ReportMessage
