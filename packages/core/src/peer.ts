/**
 * The door for sister packages (server, CLI) and for tools that read a node's files. Not covered by semantic versioning: what is
 * here follows core's insides.
 */
export { findReports, readReportedReplays, readReportedRequests } from './divergence/stored-reports.ts'
export { REPLAY_FILE, replayLine, reportToJson, requestToJson } from './divergence/divergence-report.ts'
export { epochOf } from './position/epoch.ts'
export { operationToJson } from './request/plain-json.ts'
export { sendResolve, sendWrite } from './forward/unary-client.ts'
export { fetchExport } from './stream/export-client.ts'
export { sendDemote, sendHandOff, sendPromote } from './peer/office-client.ts'
export { fetchStatus } from './peer/status-client.ts'
export { loadPeerProtocol } from './peer/protocol.ts'
export { LtxStreamReader } from './ltx/ltx-stream-reader.ts'
export {
  ENVELOPE_BYTES,
  parseEnvelope,
  parseRequestsHeader,
  parseSegmentHeader,
  parseSegmentName,
  REQUESTS_HEADER_BYTES,
  SEGMENT_HEADER_BYTES,
} from './log/segment-format.ts'

export type { DivergenceReport, DivergentRequest, Replay } from './divergence/divergence-report.ts'
export type { StoredReport } from './divergence/divergence-store.ts'
export type { RemoteWrite } from './forward/unary-client.ts'
export type { ResolveAnswer, WriteAnswer } from './forward/write-call.ts'
export type { ExportRequest, ExportResult } from './stream/export-client.ts'
export type { OfficeReply, PromoteOptions } from './peer/office-client.ts'
export type { UnaryOptions } from './peer/unary-call.ts'
export type { WriteOperation, WriteResult } from './request/write-request.ts'
export type { DatabaseStatus, NodeStatus, ReplicaStatus } from './peer/node-status.ts'
export type { Member } from './peer/wire-messages.ts'
export type { Envelope, LogTail } from './log/segment-format.ts'
export type { LtxHeader, LtxTrailer } from './ltx/ltx-header.ts'
