/** Door of @litefleet/server: configuration and the life of a node as a process. */
export { readClusterKeys, readNodeConfig } from './config-file.ts'
export { mergeNodeConfig, parseNodeConfig } from './node-config.ts'
export type { ConfiguredDatabase, NodeConfig } from './node-config.ts'
export { runNode, stopSignal, toClusterOptions } from './run-node.ts'
export type { RunNodeOptions } from './run-node.ts'
