/** The door for applications. */
export { Cluster, openCluster } from './cluster.ts'
export { Database } from './database/database.ts'
export { ReadStatement } from './database/read-statement.ts'
export { ClusterError, isClusterError } from './errors/cluster-error.ts'
export { errorTable } from './errors/error-table.ts'
export { formatChecksum } from './position/checksum.ts'
export { formatPosition, parsePosition } from './position/position.ts'
export { formatTxid } from './position/txid.ts'
export { parseRequestId } from './request/request-id.ts'

export type { DatabaseOptions, OfficeOptions, ProcedureDefinition, PromoteOptions, Rpc } from './cluster.ts'
export type { BatchAnswer, ResolvedWrite, RunAnswer, WriteReceipt } from './database/database.ts'
export type { Migration, Migrations } from './database/migrations.ts'
export type { ReadTransaction } from './database/read-transaction.ts'
export type { BindParameter } from './database/read-statement.ts'
export type { ResolveOptions, WriteOptions } from './database/write-options.ts'
export type { ErrorCode, Outcome, Retry } from './errors/error-table.ts'
export type { FailurePhase } from './errors/failure-phase.ts'
export type { FunctionContext } from './forward/function-table.ts'
export type { NodeRole, PrimaryInfo } from './leadership/node-role.ts'
export type { LogOptions } from './log/log-options.ts'
export type { ClusterOptions, ClusterWarning } from './options/cluster-options.ts'
export type {
  ConsulLeaseOptions,
  EtcdLeaseOptions,
  HostLeaseOptions,
  LeaseOptions,
  StaticLeaseOptions,
} from './options/lease-options.ts'
export type { NodeStatus } from './peer/node-status.ts'
export type { Position } from './position/position.ts'
export type { InputSchema } from './procedure/input-schema.ts'
export type { Procedure, ProcedureAnswer } from './procedure/procedure.ts'
export type { RemoteFunction, RpcOptions } from './procedure/remote-function.ts'
export type { AwaitLevel } from './request/await-level.ts'
export type { PlainValue } from './request/plain-value.ts'
export type { RequestId } from './request/request-id.ts'
export type { SqlParams, SqlRow, SqlValue } from './request/sql-value.ts'
export type { SqlStatement, StatementResult, WriteResult } from './request/write-request.ts'
export type { LedgerOptions } from './write/ledger-options.ts'
export type { Transaction } from './write/transaction.ts'
