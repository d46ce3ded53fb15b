/** Reads what a node is configured from: the only file of this package that opens files. */
import { ClusterError } from '@litefleet/core'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { type LiteFsConfig, parseLiteFsConfig } from './litefs-config.ts'
import { type NodeConfig, parseNodeConfig } from './node-config.ts'

/** Throws `INVALID_OPTION` naming the file. */
export function readNodeConfig(file: string): NodeConfig {
  return parseNodeConfig(readText(file, 'configuration'), path.basename(file), path.dirname(path.resolve(file)))
}

/**
 * LiteFS's configuration file. Throws `INVALID_OPTION` naming the file.
 * @param env for its variables; `undefined`: they are left as they stand
 */
export function readLiteFsConfig(file: string, env: NodeJS.ProcessEnv | undefined): LiteFsConfig {
  return parseLiteFsConfig(readText(file, 'LiteFS configuration'), path.basename(file), env)
}

/** The keys in a file, one on each line; empty lines do not count. */
export function readClusterKeys(file: string): readonly string[] {
  const keys = readText(file, 'cluster key')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
  if (keys.length === 0) throw new ClusterError('INVALID_OPTION', `cluster key file ${file} is empty`)
  return keys
}

function readText(file: string, what: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown error'
    throw new ClusterError('INVALID_OPTION', `${what} file ${file} cannot be read: ${code}`, { cause: error })
  }
}
