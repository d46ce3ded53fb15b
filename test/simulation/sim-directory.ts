/** The data directory of a simulated machine: the paths of the real one, on a virtual disk, without a lock. */
import type { DataDirectory, StoredClusterId } from '../../packages/core/src/files/data-directory.ts'
import { databaseName } from '../../packages/core/src/request/database-name.ts'

export const CLUSTER_ID = 'LFSC00000000000000AB'
export const DATABASE = databaseName('app.db')

/** Every machine belongs to the one cluster of the run. */
export function simDirectory(): DataDirectory {
  const stored: StoredClusterId = { kind: 'known', id: CLUSTER_ID, isFromCopy: false }
  const directory = {
    path: '/data',
    clusterIdFile: '/data/clusterid',
    groupDirectory: () => '/data/main',
    epochFile: (_group: string, name: string) => `/data/main/${name}`,
    databaseDirectory: () => '/data/main/dbs/app.db',
    databaseNames: () => [DATABASE],
    readClusterId: () => stored,
    writeClusterId: () => undefined,
  }
  return directory as unknown as DataDirectory
}
